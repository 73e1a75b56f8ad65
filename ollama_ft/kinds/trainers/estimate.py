"""What a training will take, measured before it starts: time, memory, disk."""

import shutil
import statistics
import sys
import time
from pathlib import Path

import psutil
import torch

from ollama_ft.kinds.trainers.batching import in_order, shared_prefix
from ollama_ft.kinds.trainers.job import Choice, Estimate, Job, Row
from ollama_ft.kinds.trainers.model import Scorer, adapter_parameters
from ollama_ft.kinds.trainers.retain import PIECES
from ollama_ft.kinds.trainers.schedule import Plan
from ollama_ft.kinds.trainers.teacher import teachers_rows
from ollama_ft.kinds.trainers.watchdog import lack

FORWARD_SHARE = 0.4  # of a training step's time: scoring alone, without the backward pass
VALID_BATCH = 4  # times the recipe's batch size: scoring keeps no activations


def estimate(scorer: Scorer, job: Job, plan: Plan, choice: Choice, done: int = 0) -> Estimate:
    """Train the heaviest batch and a usual one for show, and reckon from there.

    Raises OutOfResources when memory or disk will not do.
    """
    batches = [plan.batch(step) for step in range(done, min(plan.steps, done + plan.per_epoch))]
    weights = adapter_parameters(scorer.adapted)
    adapter_bytes = sum(p.numel() for p in weights.values()) * 4
    # Adapter, two moments and the best one, old and new at once; then the adapter to keep.
    disk = 9 * adapter_bytes + _teacher_bytes(scorer, job)
    _check_disk(job, disk)
    _measure(scorer, max(batches, key=_line_tokens))
    peak = _peak(choice) + 3 * adapter_bytes  # the moments and the best adapter come on top
    _check_memory(job, choice, peak)
    usual = sorted(batches, key=_line_tokens)[len(batches) // 2]
    pace = min(_measure(scorer, usual) for _ in range(2)) / _line_tokens(usual)
    steps = plan.steps - done
    line = (statistics.fmean(map(_line_tokens, batches)) + _retained_tokens(job)) * steps
    return Estimate(
        seconds=pace * (line + FORWARD_SHARE * _valid_tokens(job, plan, done)),
        peak_bytes=peak,
        disk_bytes=disk,
        steps=plan.steps,
        tokens=round(statistics.fmean(sum(map(len, rows)) for rows in batches) * plan.steps),
        trainable=adapter_bytes // 4,
        choice=choice,
    )


def _line_tokens(rows: list[Row]) -> int:
    return sum(map(len, rows)) - (len(rows) - 1) * shared_prefix(rows)


def _retained_tokens(job: Job) -> float:
    if not job.recipe.retain or not job.general:
        return 0.0
    return statistics.fmean(map(len, job.general)) * min(PIECES, len(job.general))


def _teacher_bytes(scorer: Scorer, job: Job) -> int:
    places = sum(len(row.answer) for row in teachers_rows(job))
    return places * scorer.width * scorer.dtype.itemsize


def _valid_tokens(job: Job, plan: Plan, done: int) -> int:
    if not plan.validate_every:
        return 0
    rounds = -(-plan.steps // plan.validate_every) - done // plan.validate_every
    batches = in_order(job.valid, VALID_BATCH * job.recipe.batch_size)
    return rounds * sum(_line_tokens([job.valid[i] for i in batch]) for batch in batches)


def _measure(scorer: Scorer, rows: list[Row]) -> float:
    """Seconds of one forward and backward pass; the gradients are thrown away."""
    start = time.perf_counter()
    scorer(scorer.batch(rows)).backward()
    if scorer.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    scorer.zero_grad(set_to_none=True)
    return seconds


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, Linux KiB


def _peak(choice: Choice) -> int:
    if choice.device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return peak_rss_bytes()


def _check_memory(job: Job, choice: Choice, peak: int) -> None:
    if choice.device == "cuda":
        there = torch.cuda.get_device_properties(0).total_memory
    else:
        there = free_bytes() + psutil.Process().memory_info().rss
    if peak > there:
        raise lack("memory", peak, there, job.recipe)


def free_bytes() -> int:
    """Memory that this process may still take: the machine's, or what its container leaves."""
    free = int(psutil.virtual_memory().available)
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return min(free, int(limit) - int(used)) if limit.strip().isdigit() else free


def _check_disk(job: Job, needed: int) -> None:
    folder: Path = job.folder
    folder.mkdir(parents=True, exist_ok=True)
    there = shutil.disk_usage(folder).free
    if needed > there:
        raise lack("disk", needed, there, job.recipe)
