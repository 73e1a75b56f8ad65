"""Our training against transformers' Trainer with PEFT: same base, rows, seed, threads, settings.

    python -m benchmarks.train                   # all three cases, some minutes on two cores
    python -m benchmarks.train a --steps 20 --threads 1
    python -m benchmarks.train a --peers         # LLaMA-Factory and TRL too, each in its own venv

Every contender runs in a process of its own, one after the other. Row tokens are those of the rows
as they are: no padding, a shared prompt counted in each. Fails if a ratio of the table in
benchmarks/train_cases.py is missed, or the losses in fp32 are not the same curve.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.train_cases import CASES
from tests.conftest import MODELS
from tests.models import fetch

WARM = 2  # first steps, not counted
SAME = 0.02  # largest difference between losses of the same step, nats
RUNS = {
    "trainer": ("transformers.Trainer + PEFT", "trainer", "fp32"),
    "shuffled": ("the same, its own batches", "shuffled", "fp32"),
    "fp32": ("ollama-ft, fp32", "ours", "fp32"),
    "auto": ("ollama-ft, as it chooses", "ours", "auto"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--steps", type=int, help="default: by case")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    gguf = fetch("smollm2", MODELS)
    peak = gemm_peak(options.threads)
    print(f"{options.threads} threads; GEMM peak in fp32 {peak['fp32'] / 1e9:.0f} GFLOP/s", end="")
    print(f", in bf16 {peak['bf16'] / 1e9:.0f} GFLOP/s" if "bf16" in peak else "")
    missed = [m for case in options.cases for m in compare(case, gguf, options, peak)]
    print("\n".join(missed) or "every ratio is reached")
    sys.exit(1 if missed else 0)


def compare(
    case: str, gguf: Path, options: argparse.Namespace, peak: dict[str, float]
) -> list[str]:
    wanted = CASES[case]
    steps = options.steps or wanted.steps
    print(f"\n({case}) {wanted.title}, batch {wanted.batch}, {steps} steps")
    print(f"{'':32}{'tok/s':>8}{'s/step':>8}{'CPU s':>8}{'peak MB':>9}{'of GEMM':>9}{'whole s':>9}")
    found = {}
    for key, (title, name, precision) in RUNS.items():
        if key == "shuffled" and case != "b":
            continue
        found[key] = run([name, case, str(gguf), str(steps), str(options.threads), precision])
        show(title, found[key], peak)
    if options.peers and case == "a":
        from benchmarks.train_peers import run_peers

        for title, figures in run_peers(gguf, steps, options.threads).items():
            show(title, figures, peak)
    return check(case, found)


def check(case: str, found: dict[str, dict[str, Any]]) -> list[str]:
    wanted, ours, theirs = CASES[case], found["fp32"], found["trainer"]
    missed = []
    for key in ("fp32", "auto"):
        for other in [k for k in ("trainer", "shuffled") if k in found]:
            faster = speed(found[key]) / speed(found[other])
            smaller = found[key]["peak_bytes"] / found[other]["peak_bytes"]
            print(f"  {key:5} against {other:9} {faster:5.2f} x tokens/s, {smaller:.2f} x memory")
            if other == "trainer" and (faster < wanted.faster or smaller > wanted.smaller):
                missed.append(f"({case}) {key}: {faster:.2f} x tokens/s, {smaller:.2f} x memory")
    apart = max(abs(x - y) for x, y in zip(ours["losses"], theirs["losses"], strict=True))
    rounded = max(
        abs(x - y) for x, y in zip(found["auto"]["losses"], theirs["losses"], strict=True)
    )
    print(f"  largest difference of a step's loss: fp32 {apart:.4f}, as chosen {rounded:.4f} nats")
    if apart > SAME:
        missed.append(f"({case}) the losses differ by {apart:.4f}")
    return missed


def run(arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.train_runs", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": arguments[4], "HF_HUB_OFFLINE": "1"}
    environment.pop("GOMP_SPINCOUNT", None)  # what tests.conftest sets, for many small processes
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{arguments[0]} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def speed(figures: dict[str, Any]) -> float:
    """Row tokens a second of the upper quartile of steps: other work on the machine only slows."""
    rates = [t / s for t, s in zip(figures["step_tokens"], figures["step_seconds"], strict=False)]
    return float(statistics.quantiles(rates[WARM:], n=4)[2])


def show(title: str, figures: dict[str, Any], peak: dict[str, float]) -> None:
    tokens, seconds = figures["step_tokens"][WARM:], figures["step_seconds"][WARM:]
    cpu, share = "-", "-"  # not known of the peers
    if spent := figures["step_cpu_seconds"][WARM:]:
        cpu = f"{statistics.fmean(spent):.2f}"
    if flops := figures["flops"][WARM:]:
        reached = speed(figures) * sum(flops) / sum(tokens)
        share = f"{reached / peak.get(figures['dtype'], peak['fp32']):.0%}"
    name = f"{title} ({figures['dtype']})" if "chooses" in title else title
    print(
        f"{name:32}{speed(figures):8.0f}{statistics.fmean(seconds):8.2f}{cpu:>8}"
        f"{figures['peak_bytes'] / 1e6:9.0f}{share:>9}{figures['whole_seconds']:9.0f}",
        flush=True,
    )


def gemm_peak(threads: int) -> dict[str, float]:
    """The best rate that this machine reaches in large products, FLOP/s by precision."""
    from ollama_ft.kinds.trainers.machine import rates_of

    rates = rates_of("cpu", threads)
    best = {"fp32": max(rate for name, rate in rates.items() if name.startswith("fp32"))}
    return best | {name: rates[name] for name in ("bf16",) if name in rates}


if __name__ == "__main__":
    main()
