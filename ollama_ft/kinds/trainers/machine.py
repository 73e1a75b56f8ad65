"""How fast this machine multiplies matrices, in which precision, on how many threads: measured.

Reads and writes one small JSON file. Choices hang on time, so two probes could disagree, and other
threads or another precision give other bits in the adapter. What was measured first is therefore
kept for this machine and these library versions; only clear gains change a choice.
"""

import ctypes
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import psutil
import torch

from ollama_ft.core.errors import BadInput, Unsupported
from ollama_ft.core.files import digest_bytes, write_bytes
from ollama_ft.kinds.trainers.job import Choice

SMALL, LARGE = (64, 256, 512), (256, 1024, 2048)  # products as a small model's step has them
SLOW = 1e10  # FLOP/s below which the large product is not tried
ROUNDS = 5  # the best of so many counts: other work on the machine only ever slows down
CLEAR_GAIN = 1.3  # a lower precision, or fewer threads, must be this much faster to be chosen
BUSY = 0.1  # share of the processors that others may take before a count of threads is doubted
# Largest error of a product that its precision explains: digits, and a sum of 512 terms.
SAFE = {"fp32": 2e-5, "bf16": 3e-2, "fp16": 5e-3}
HOPELESS = 8  # times slower than fp32: emulated, not computed

Rates = dict[str, float]  # "fp32/default" | "fp32/onednn" | "bf16" | "fp16" → FLOP/s


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured of one device."""

    device: str
    threads: int
    rates: Rates


def find_device(wanted: str) -> str:
    """Where to compute: the wanted device, or for "auto" the fastest kind that is there.

    Raises Unsupported for a device that this machine does not have.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, usable in there.items() if usable)
    if not there.get(wanted, False):
        raise Unsupported(f"This machine has no device {wanted!r} that torch can use.")
    return wanted


def choose(machine: Machine, precision: str, weights: int, memory: int) -> Choice:
    """How to compute: the recipe's precision, or for "auto" the fastest safe one.

    `weights` is the number of the base's parameters and `memory` the machine's bytes: a base that
    would fill half of the memory in fp32 is kept in bf16 however fast that is.
    Raises BadInput for fp16 where the processor only emulates it.
    """
    rates = machine.rates
    kernel = max((n for n in rates if n.startswith("fp32/")), key=lambda n: _credit(n, rates[n]))
    fp32 = rates[kernel]
    dtype = precision
    if precision == "auto":
        fast = "bf16" if "bf16" in rates else "fp16"
        small = 4 * weights > memory / 2 and "bf16" in rates
        better = rates.get(fast, 0.0) >= CLEAR_GAIN * fp32
        # fp16 needs loss scaling, and CPUs rarely have it in hardware: for GPUs without bf16 only.
        allowed = fast == "bf16" or machine.device == "cuda"
        dtype = fast if small or (better and allowed) else "fp32"
    if dtype == "fp16" and rates.get("fp16", 0.0) * HOPELESS < fp32:
        raise BadInput(
            "This processor has no fp16 arithmetic: training would take many times longer.",
            mend="ollama-ft train --set precision=auto",
        )
    rate = rates.get(dtype, fp32)
    return Choice(
        device=machine.device,
        dtype=dtype,
        kernel=kernel.partition("/")[2],
        threads=machine.threads,
        gemm_flops=rate,
    )


def _credit(name: str, rate: float) -> float:
    return rate * (CLEAR_GAIN if name == "fp32/default" else 1.0)


def measured(device: str, file: Path) -> Machine:
    """The machine as `file` knows it; measured and written there if it does not."""
    key = _key(device)
    known: dict[str, dict[str, object]] = {}
    try:
        known = json.loads(file.read_text())
        return Machine(**known[key])  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError):
        known = known if isinstance(known, dict) else {}
    machine = _measure(device)
    write_bytes(file, json.dumps({**known, key: asdict(machine)}, indent=1).encode())
    return machine


def _key(device: str) -> str:
    parts = [device, platform.machine(), _processor(), str(_cores()), torch.__version__]
    parts.append("rates on one thread")
    parts.append(os.environ.get("OMP_NUM_THREADS", ""))
    if device == "cuda":
        parts.append(torch.cuda.get_device_name())
    return digest_bytes("\n".join(parts).encode())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "cpu family", "stepping", "flags")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _cores() -> int:
    if limit := os.environ.get("OMP_NUM_THREADS", "").split(",")[0]:
        return max(1, int(limit)) if limit.isdigit() else 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _measure(device: str) -> Machine:
    threads = _best_threads() if device == "cpu" else torch.get_num_threads()
    # On one thread: how well several work together hangs on what else the machine does just now,
    # and which kind of number is the faster one does not.
    return Machine(device=device, threads=threads, rates=rates_of(device, threads=1))


def rates_of(device: str, threads: int) -> dict[str, float]:
    """Operations a second of matrix products, by kind of number and kernel."""
    with computing(Choice(device=device, dtype="fp32", kernel="default", threads=threads)):
        rates = {"fp32/default": _rate(torch.float32, device)}
        if device == "cpu":
            with matrix_kernel("onednn"):
                # It may round to bf16 inside where the processor has tiles for it: no fp32 then.
                if _error(torch.float32, device) < SAFE["fp32"]:
                    rates["fp32/onednn"] = _rate(torch.float32, device)
        for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            if _supported(name, device) and _error(dtype, device) < SAFE[name]:
                rates[name] = _rate(dtype, device)
    return rates


def _best_threads() -> int:
    # All cores, unless fewer are clearly faster (two threads on one core rarely help).
    cores = _cores()
    counts = sorted({cores, max(1, cores // 2), 1}, reverse=True)
    rates = {}
    strangers = _strangers()
    for count in counts:
        with computing(Choice(device="cpu", dtype="fp32", kernel="default", threads=count)):
            rates[count] = _rate(torch.float32, "cpu")
    best = max(counts, key=lambda count: rates[count])
    # While others compute, few threads look better than they will be later.
    if rates[best] >= CLEAR_GAIN * rates[cores] and strangers() < BUSY:
        return best
    return cores


def _strangers() -> Callable[[], float]:
    """A clock: the processors' share that others than this process have taken since it was made."""

    def taken() -> tuple[float, float]:
        whole, own = psutil.cpu_times(), psutil.Process().cpu_times()
        busy = sum(whole) - whole.idle - getattr(whole, "iowait", 0.0)
        return busy - own.user - own.system, sum(whole)

    busy, total = taken()

    def share() -> float:
        later, end = taken()
        return (later - busy) / max(end - total, 1e-9)

    return share


def _supported(name: str, device: str) -> bool:
    if device == "cuda":
        return name == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu"


def _rate(dtype: torch.dtype, device: str) -> float:
    """Floating point operations a second of x·Wᵀ and g·W, the two products of a frozen layer."""
    # A smaller product first: where a type is emulated the large one could take minutes.
    for rows, width, out in (SMALL, LARGE):
        seconds = min(_timed(dtype, device, rows, width, out) for _ in range(ROUNDS))
        rate = 4 * rows * width * out / seconds
        if rate < SLOW:
            break
    return rate


def _timed(dtype: torch.dtype, device: str, rows: int, width: int, out: int) -> float:
    x = torch.ones(rows, width, dtype=dtype, device=device)
    weight = torch.ones(out, width, dtype=dtype, device=device)
    slope = torch.ones(rows, out, dtype=dtype, device=device)
    seconds = 0.0
    for _ in range(2):  # the first time a kernel may be compiled
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        torch.mm(slope, weight)
        _wait(device)
        seconds = time.perf_counter() - start
    return seconds


def _wait(device: str) -> None:
    if device != "cpu":
        cast(Callable[[], None], getattr(torch, device).synchronize)()


def _error(dtype: torch.dtype, device: str) -> float:
    # Largest error of a product in `dtype`, in standard deviations of the true result.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 512, generator=generator).to(device, dtype)
    weight = torch.randn(256, 512, generator=generator).to(device, dtype)
    truth = x.cpu().double() @ weight.cpu().double().t()
    found = torch.nn.functional.linear(x, weight).cpu().double()
    return float((found - truth).abs().max() / truth.std())


@contextmanager
def matrix_kernel(name: str) -> Iterator[None]:
    """Let torch use its default for products in fp32, or oneDNN ("onednn"), while it lasts."""
    before = torch.get_float32_matmul_precision()
    # "medium" is how torch sends fp32 products to oneDNN; `_measure` checks that they stay exact.
    torch.set_float32_matmul_precision("medium" if name == "onednn" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def computing(choice: Choice) -> Iterator[None]:
    """Compute as chosen while it lasts, then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(choice.threads)
    try:
        with matrix_kernel(choice.kernel):
            yield
    finally:
        torch.set_num_threads(before)


def give_back_memory() -> None:
    """Let the C library return what is free to the system, where it can: loading leaves holes."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def only_exact(device: str) -> Choice:
    """Plain fp32 on the threads that are set: for numbers that others are compared with."""
    threads = torch.get_num_threads()
    return Choice(device=device, dtype="fp32", kernel="default", threads=threads)
