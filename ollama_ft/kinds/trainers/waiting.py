"""How OpenMP's idle threads wait: decided once, before torch is loaded.

A thread that waits can spin or sleep. On a quiet machine spinning for some microseconds saves the
waking; beside other busy processes it takes the time that those who work need. Measured on two
cores, seconds a step: quiet 0.68 spinning and 1.15 sleeping, beside one busy process 2.7 and 1.05.
"""

import os
import sys
from collections.abc import Callable

SPIN = "3000"  # rounds of GNU OpenMP's waiting loop; 300 gave 0.96 seconds a step, 20,000 gave 0.73
SLEEP = "0"
LOOK = 0.3  # seconds
CALM = 0.25  # processors that others may keep busy


def decide(busy: Callable[[], float] | None = None) -> None:
    """Set GOMP_SPINCOUNT by how busy the machine is now, unless torch is loaded or somebody has set
    it or OMP_WAIT_POLICY.

    `busy` tells how many processors are at work while this process sleeps.
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() or "torch" in sys.modules:
        return
    os.environ["GOMP_SPINCOUNT"] = SPIN if (busy or _busy)() < CALM else SLEEP


def _busy() -> float:
    import psutil

    return sum(psutil.cpu_percent(interval=LOOK, percpu=True)) / 100
