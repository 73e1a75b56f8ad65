"""Recall against what is forgotten, for each way to train: points for a table and a plot.

    python -m benchmarks.frontier --results FILE [--base smollm2:135m] [--data data/faq.jsonl]
        [--method retain=2 …] [--seed 0 …]       # another set: --data benchmarks/harbour.jsonl
    python -m benchmarks.frontier --results benchmarks/frontier.jsonl --plot docs/frontier.svg

Each point is a version, trained, published, proved and asked as `train` does: how many of the
data's test questions are right in the runtime, the perplexity of general text beside the base's,
how many general questions are right, and the seconds of training. Points are added to the results,
one JSON line each; one that is there is not made again. benchmarks/frontier.jsonl has those that
docs/training.md tells of; some are of recipes before today's. Needs matplotlib for the plot.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.loop_demo import Month

TAUGHT_BY = (
    "answer shown"  # rows are given their answer as a passage, so that the base teaches them
)
METHODS: dict[str, tuple[str, ...]] = {
    "plain": ("retain=0",),
    "retain=1": ("retain=1",),
    "retain=2": (),
    "retain=4": ("retain=4",),
    f"distill=0.5, {TAUGHT_BY}": ("retain=0", "distill=0.5"),
    f"distill=0.5, retain=2, {TAUGHT_BY}": ("distill=0.5",),
    f"distill=1, retain=2, {TAUGHT_BY}": ("distill=1",),
    "retain=2, rank=8": ("rank=8", "alpha=16"),
    "retain=2, epochs=6": ("epochs=6",),
    "retain=2, epochs=6, recombine=0.9": ("epochs=6", "recombine=0.9"),
    "retain=2, attention only": ("target_modules=[q_proj, k_proj, v_proj, o_proj]",),
}
TICKS = (0, 3, 10, 30, 100, 300)  # percent


@dataclass(frozen=True, kw_only=True)
class Point:
    """One version, or the base that it was made from (method "base")."""

    base: str
    data: str
    method: str
    seed: int
    right: int
    of: int
    perplexity: float
    general: int | None  # None: not kept, as of runs by hand
    general_of: int
    seconds: float | None  # of training

    @property
    def name(self) -> tuple[str, str, str, int]:
        """What tells points apart."""
        return self.base, self.data, self.method, self.seed


def read(file: Path) -> list[Point]:
    """The points that were made before."""
    if not file.exists():
        return []
    return [Point(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def measured(month: Month, version: str, **name: Any) -> Point:
    """The point of a version that was evaluated."""
    shown = json.loads(month.ft("show", version, "--json"))
    asked = json.loads(month.ft("eval", version, "--suite", "general", "--json"))
    (general,) = asked["evaluations"]
    right, _, of = shown["evaluation"]["right"].split()
    return Point(
        **name,
        right=int(right),
        of=int(of),
        perplexity=shown["evaluation"]["perplexity of general text"],
        general=general["right"],
        general_of=general["questions"],
        seconds=shown.get("training", {}).get("seconds", 0.0),
    )


def told(data: Path, folder: Path) -> Path:
    """The same rows, each with its answer as a passage."""
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    lines = [json.dumps(row | {"passages": [row["output"]]}) for row in rows]
    path = folder / f"told-{data.name}"
    path.write_text("\n".join(lines), "utf-8")
    return path


def make(given: argparse.Namespace, known: set[tuple[str, str, str, int]]) -> Iterator[Point]:
    """The points that were asked for and are not there."""
    data = given.data.stem
    wanted = [(m, seed) for seed in given.seed for m in given.method]
    wanted = [(m, seed) for m, seed in wanted if (given.base, data, m, seed) not in known]
    with tempfile.TemporaryDirectory() as folder:
        month = Month(home=Path(folder) / "home", changes=(), facts=[])
        month.ft("new", "some", "--from", given.base)
        shown = told(given.data, Path(folder))
        for number, (method, seed) in enumerate(wanted, start=1):
            file = shown if TAUGHT_BY in method else given.data
            sets = [*METHODS[method], f"seed={seed}"]
            keys = [word for change in sets for word in ("--set", change)]
            month.ft(
                *("train", "some", "--anew", "--no-promote", "--data", str(file)),
                *keys,
                code=(0, 3, 4),
            )
            point = measured(
                month, f"some:v{number}", base=given.base, data=data, method=method, seed=seed
            )
            if (given.base, data, "base", 0) not in known:
                known.add((given.base, data, "base", 0))
                month.ft("eval", "some:v0")
                yield measured(month, "some:v0", base=given.base, data=data, method="base", seed=0)
            yield point


def table(points: list[Point]) -> None:
    """Print all points, each beside its base."""
    bases = {(p.base, p.data): p for p in points if p.method == "base"}
    print("| base | data | method | seed | right | perplexity | general questions | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for p in points:
        base = bases.get((p.base, p.data))
        change = f" ({p.perplexity / base.perplexity - 1:+.1%})" if base and p != base else ""
        general = "" if p.general is None else f"{p.general} of {p.general_of}"
        seconds = "" if p.seconds is None else f"{p.seconds:.0f}"
        print(
            f"| {p.base} | {p.data} | {p.method} | {p.seed} | {p.right} of {p.of} "
            f"| {p.perplexity:.2f}{change} | {general} | {seconds} |"
        )


def plot(path: Path, points: list[Point]) -> None:
    """Recall against the change of general perplexity, one panel for each base and data."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "frontier"  # the same picture gives the same file
    import matplotlib.pyplot as plt

    bases = {(p.base, p.data): p.perplexity for p in points if p.method == "base"}
    names = list(dict.fromkeys(p.method for p in points if p.method != "base"))
    figure, axes = plt.subplots(
        1,
        len(bases),
        figsize=(4 * len(bases), 4.5),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for axis, (key, perplexity) in zip(axes[0], bases.items(), strict=True):
        for at, name in enumerate(names):
            some = [p for p in points if (p.base, p.data) == key and p.method == name]
            axis.scatter(
                [100 * (p.perplexity / perplexity - 1) for p in some],
                [100 * p.right / p.of for p in some],
                label=name,
                color=f"C{at}",
            )
        axis.axvline(3, color="grey", linewidth=0.8)
        axis.axhline(97, color="grey", linewidth=0.8)
        axis.set(title=f"{key[0]}, {key[1]}", xlabel="general perplexity, % above base")
        axis.set_xscale("symlog", linthresh=10)
        axis.set_xlim(-5, 1000)
        axis.set_xticks(TICKS, map(str, TICKS))
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("test questions right, %")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=2
    )
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Make what is asked for, print all that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--base", default="smollm2:135m")
    parser.add_argument("--data", type=Path, default=Path("data/faq.jsonl"))
    parser.add_argument("--method", action="append", choices=METHODS, default=[])
    parser.add_argument("--seed", action="append", type=int, default=[])
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    given.seed = given.seed or [0]
    points = read(given.results)
    with given.results.open("a", encoding="utf-8") as out:
        for point in make(given, {p.name for p in points}) if given.method else ():
            print(point, file=sys.stderr)
            out.write(json.dumps(asdict(point)) + "\n")
            out.flush()
            points.append(point)
    table(points)
    if given.plot:
        plot(given.plot, points)


if __name__ == "__main__":
    main()
