"""What the libraries below torch read from the environment, set before torch is loaded.

GOMP_SPINCOUNT: an idle thread of OpenMP's can spin or sleep. On a quiet machine spinning for some
microseconds saves the waking; beside other busy processes it takes the time that those who work
need. Measured on two cores, seconds a step: quiet 0.68 spinning and 1.15 sleeping, beside one busy
process 2.7 and 1.05.

ONEDNN_PRIMITIVE_CACHE_CAPACITY: oneDNN keeps the code that it writes for each shape of a matrix
product, 1024 of them, and a training meets a new shape in most steps. With 32 a training of the
demo's rows held 1.33 GB after 76 steps, with 1024 1.61 GB and growing, at the same pace.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

SPIN = "3000"  # rounds of GNU OpenMP's waiting loop; 300 gave 0.96 seconds a step, 20,000 gave 0.73
SLEEP = "0"
LOOK = 0.3  # seconds
CALM = 0.25  # processors that others may keep busy
SHAPES = "32"  # whose code is kept


def prepare(busy: Callable[[], float] | None = None) -> None:
    """Set what nobody has set, unless torch is loaded.

    Threads spin or sleep by how busy the machine is now. `busy` tells how many processors others
    keep at work.
    """
    if "torch" in sys.modules:
        return
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", SHAPES)
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN if (busy or _busy)() < CALM else SLEEP


def _busy() -> float:
    # A runtime of our own that has just been started is at rest when the training begins.
    import psutil

    before = _spent()
    all_of_them = sum(psutil.cpu_percent(interval=LOOK, percpu=True)) / 100
    return max(0.0, all_of_them - (_spent() - before) / LOOK)


def _spent() -> float:
    """Seconds of processor time that this process and its children have had."""
    import psutil

    us = psutil.Process()
    total = 0.0
    for process in (us, *us.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total
