"""How often the gate is fooled, and how often it sees a real gain, by simulation.

    python benchmarks/gate.py [--draws 10000] [--plot docs/gate.svg]

Two versions are drawn at random: each question is right or wrong under both, with chances that are
known. Then the product's own `kinds.gate.decide` judges them by the default gate, beside the rule
"promote if the number is higher". Prints Markdown; needs matplotlib for the plot.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from ollama_ft.core.gates import load_gate
from ollama_ft.core.home import shipped
from ollama_ft.kinds.gate import Asked, Pair, decide

SIZES = (100, 200, 500)
RULES = load_gate("default", [shipped() / "registry" / "gates"])


@dataclass(frozen=True, kw_only=True)
class World:
    """What is true: how likely a question is gained and lost, and how questions hang together."""

    name: str
    gained: float
    lost: float
    phrasings: int = 1  # questions of one fact; they change together
    new: float = 0.0  # share of questions that the live version was not taught
    general: int = 0  # questions of a general suite, of which 5 % are gained and 5 % lost


NULL = (
    World(name="no difference, 20 % of the answers change", gained=0.1, lost=0.1),
    World(name="no difference, 60 % change", gained=0.3, lost=0.3),
    World(name="no difference, two phrasings of each fact", gained=0.1, lost=0.1, phrasings=2),
    World(name="no difference, a fifth of the questions new", gained=0.1, lost=0.1, new=0.2),
)
GAIN = (
    World(name="10 points better, 10 % change", gained=0.1, lost=0.0),
    World(name="10 points better, 20 % change", gained=0.15, lost=0.05),
    World(name="10 points better, 30 % change", gained=0.2, lost=0.1),
    World(name="… and a general suite of 120, no worse", gained=0.15, lost=0.05, general=120),
    World(name="… two phrasings of each fact", gained=0.15, lost=0.05, phrasings=2),
)
LOSS = (World(name="10 points worse, 20 % change", gained=0.05, lost=0.15),)

Counts = tuple[int, int]  # facts gained, facts lost


def drawn(world: World, size: int, draws: int, seed: int) -> Counter[tuple[Counts, ...]]:
    """How often each outcome came up: the changes among old, new and general questions."""
    rng = np.random.default_rng(seed)
    facts = size // world.phrasings
    new = round(facts * world.new)
    shares = [world.gained, world.lost, 1 - world.gained - world.lost]
    parts = [
        rng.multinomial(facts - new, shares, draws),
        rng.multinomial(new, shares, draws),
        rng.multinomial(world.general, [0.05, 0.05, 0.9], draws),
    ]
    table = np.concatenate([part[:, :2] for part in parts], axis=1)
    unique, counts = np.unique(table, axis=0, return_counts=True)
    return Counter(
        {
            ((a, b), (c, d), (e, f)): int(times)
            for (a, b, c, d, e, f), times in zip(unique.tolist(), counts, strict=True)
        }
    )


def pairs(changes: Counts, total: int, phrasings: int, new: bool) -> Iterator[Pair]:
    """`total` questions of which the first facts are gained, the next lost, the others kept."""
    gained, lost = (count * phrasings for count in changes)
    for n in range(total):
        before, after = (False, True) if n < gained else (n < gained + lost or n % 2 == 0, False)
        after = before if n >= gained + lost else after
        yield Pair(
            id=str(n),
            question="",
            cluster=f"{new}{n // phrasings}",
            right_before=before,
            right_after=after,
            score_before=float(before),
            score_after=float(after),
            new=new,
        )


def judge(world: World, size: int, outcome: tuple[Counts, ...]) -> str:
    """The product's verdict about one drawn outcome."""
    old, new, general = outcome
    facts = size // world.phrasings
    count_new = round(facts * world.new) * world.phrasings
    own = (
        *pairs(old, facts * world.phrasings - count_new, world.phrasings, False),
        *pairs(new, count_new, world.phrasings, True),
    )
    asked = [Asked(name="faq", kind="domain", pairs=own)]
    if world.general:
        found = tuple(pairs(general, world.general, 1, False))
        asked.append(Asked(name="general", kind="general", pairs=found))
    return decide(RULES, asked).outcome


def measure(world: World, size: int, draws: int, seed: int) -> dict[str, float]:
    """Shares of the draws: each verdict, and promotions if the higher number decided."""
    found: Counter[str] = Counter()
    for outcome, times in drawn(world, size, draws, seed).items():
        found[judge(world, size, outcome)] += times
        (gained, lost), (new_gained, new_lost), _ = outcome
        found["higher"] += times * (gained + new_gained > lost + new_lost)
    return {name: found[name] / draws for name in ("pass", "fail", "inconclusive", "higher")}


def plot(path: Path, results: dict[tuple[str, int], dict[str, float]]) -> None:
    """Promotions by the number of questions, for no difference and for a real gain."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "gate"  # the same picture gives the same file
    import matplotlib.pyplot as plt

    shown = {"no difference": NULL[0].name, "10 points better": GAIN[1].name}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, (title, name) in zip(axes, shown.items(), strict=True):
        for key, label, style in (
            ("higher", "the higher number", "o--"),
            ("pass", "the gate", "o-"),
        ):
            axis.plot(SIZES, [100 * results[name, n][key] for n in SIZES], style, label=label)
        axis.set(title=title, xlabel="questions", xticks=SIZES, ylim=(0, 102))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].axhline(100 * RULES.alpha, color="grey", linewidth=0.8)
    axes[0].set_ylabel("promoted, % of draws")
    axes[1].legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw, judge, print the table, draw the plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    results: dict[tuple[str, int], dict[str, float]] = {}
    print(
        "| what is true | questions | higher number promotes | gate: pass | fail | inconclusive |"
    )
    print("|---|---|---|---|---|---|")
    for seed, world in enumerate((*NULL, *GAIN, *LOSS)):
        for size in SIZES:
            found = results[world.name, size] = measure(world, size, options.draws, seed)
            told = " | ".join(f"{found[k]:.1%}" for k in ("higher", "pass", "fail", "inconclusive"))
            print(f"| {world.name} | {size} | {told} |", flush=True)
    took = time.perf_counter() - started
    print(f"\n{options.draws} draws for each line, {took:.0f} s.")
    if options.plot:
        plot(options.plot, results)


if __name__ == "__main__":
    main()
