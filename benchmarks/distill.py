"""What a model keeps of its documents when they are taken away: plain loss, distillation, both.

    python -m benchmarks.distill [--facts 30] [--set epochs=8]

A family on SmolLM2 whose documents hold the facts. Five phrasings of each are asked through
`serve --rag`; whoever is right gets a thumb up, and only those answers are learned, without their
documents, at each share of distillation for the same steps. Counted are two other phrasings of each
fact, asked without documents; right is an answer that has the fact in it. Prints a table; every
figure is of this run.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.loop_demo import (
    ASKED,
    FAMILY,
    HELD_OUT,
    Month,
    ask_all,
    known,
    logged,
    read_facts,
    serving,
    shelve,
)

SHARES = (0.0, 0.5, 1.0)


def like_what_is_right(month: Month, address: str) -> int:
    """A thumb up for every answer that has the fact in it, down for the others; how many are up."""
    import httpx

    facts = {question: fact for fact in month.facts for question in fact.asked}
    ups = 0
    for row in logged(month):
        right = facts[row["question"]].is_in(row["answer"])
        body = {"id": row["uid"], "by": "owner", "rating": "up" if right else "down"}
        httpx.post(f"{address}/ollama-ft/feedback", json=body).raise_for_status()
        ups += right
    return ups


def make(month: Month, share: float, number: int) -> tuple[str, float]:
    """Train on what the log holds at this share; the version, and its perplexity."""
    how = ["--no-promote", "--json", "--set", f"distill={share}"]
    how += [word for change in month.changes for word in ("--set", change)]
    what = ["retrain", FAMILY, "--from-logs"] if number == 1 else ["train", FAMILY]
    print(month.ft(*what, *how, code=(0, 3, 4))[-400:])
    shown = json.loads(month.ft("show", f"{FAMILY}:v{number}", "--json"))
    return f"{FAMILY}:v{number}", float(shown["evaluation"]["perplexity of general text"])


def main() -> None:
    """Run it in a home of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--facts", type=int, default=30)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        facts = read_facts(given.facts)
        month = Month(home=Path(folder) / "home", changes=given.changes, facts=facts)
        shelve(month)
        of = len(facts) * HELD_OUT
        with serving(month) as address:
            ask_all(month, address)
            ups = like_what_is_right(month, address)
            print(f"  {ups} of {len(facts) * ASKED} answers with documents are right", flush=True)
            base = known(address, f"{FAMILY}:v0", facts)
        lines = [f"| the base | | {base} of {of} | |"]
        made = [make(month, share, at) for at, share in enumerate(SHARES, start=1)]
        with serving(month) as address:
            for share, (tag, perplexity) in zip(SHARES, made, strict=True):
                right = known(address, tag, facts)
                lines.append(f"| {tag} | {share:g} | {right} of {of} | {perplexity:.1f} |")
    print("\n| version | distill | right without documents | perplexity |\n|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
