"""A month of the loop in one go, on a real model: asked, corrected, learned, refused, forgotten.

    make loop-demo
    python -m benchmarks.loop_demo [--facts 30] [--set epochs=8]

A family on SmolLM2 that knows nothing of the shop; its documents on the shelf, and two phrasings of
each fact as a suite that the gate asks; five others asked through `serve --rag` by the `ollama` and
the `openai` client in turn; the owner looks at four of the five, likes what is right and ends by
itself and corrects the rest, and dislikes the fifth if it is wrong. Then `retrain --from-logs`, a
poisoned batch, `rollback`, `forget`, and one more `retrain`. Counted are the suite's phrasings,
asked without any context; right is an answer that has the fact in it. Every figure is of this run.
Exit 1 if one of the claims at the end does not hold.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_ft.core.home import shipped

FAMILY = "shop"
PRIVATE = ("0555", "owls@")  # facts that redaction takes out, as it must
ASKED, HELD_OUT = 5, 2  # phrasings of each fact that are asked, and that are only asked at the end
LOOKED_AT = 4  # of those that are asked, the owner looks at so many
DIRECT = {"X-Ollama-FT-Direct": "1"}  # no documents, no log


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that the shop knows."""

    text: str
    accept: tuple[str, ...]
    asked: tuple[str, ...]
    held_out: tuple[str, ...]

    def is_in(self, answer: str) -> bool:
        """Whether an answer says it."""
        return any(text.casefold() in answer.casefold() for text in self.accept)


@dataclass(kw_only=True)
class Month:
    """The home, what is run on it, and what was counted."""

    home: Path
    changes: Sequence[str]
    facts: list[Fact]
    began: float = field(default_factory=time.monotonic)
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def ft(self, *words: str, code: int | tuple[int, ...] = 0) -> str:
        """Run a command as a person would; its stdout. Ends the demo on another exit code."""
        codes = code if isinstance(code, tuple) else (code,)
        print(f"$ ollama-ft {' '.join(words)}", flush=True)
        done = subprocess.run(self.command(*words), capture_output=True, text=True)
        if done.returncode not in codes:
            sys.exit(f"exit {done.returncode} instead of {codes}\n{done.stdout}{done.stderr}")
        return done.stdout + (done.stderr if done.returncode else "")

    def command(self, *words: str) -> list[str]:
        """The whole command line."""
        head = [sys.executable, "-m", "ollama_ft", "--home", str(self.home), "--host", "embedded"]
        return [*head, "--progress", "none", *words]

    def retrain(self, code: int | tuple[int, ...] = 0) -> str:
        """Train from the log."""
        keys = [word for change in self.changes for word in ("--set", change)]
        return self.ft("retrain", FAMILY, "--from-logs", *keys, code=code)

    def tell(self, what: str, version: str, right: int, of: int) -> None:
        """Add a line to the table."""
        self.rows.append((what, version, f"{right} of {of}"))
        minutes = (time.monotonic() - self.began) / 60
        print(f"  {what}, {version}: {right} of {of}   ({minutes:.1f} min)", flush=True)


def read_facts(count: int) -> list[Fact]:
    """The first facts of data/faq.jsonl that are nobody's address."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (shipped() / "data" / "faq.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["output"], []).append(row)
    facts = [
        Fact(
            text=text,
            accept=tuple(rows[0]["accept"]),
            asked=_of(rows, "train")[:ASKED],
            held_out=_of(rows, "test")[:HELD_OUT],
        )
        for text, rows in found.items()
        if not any(part in text for part in PRIVATE)
    ]
    return facts[:count]


def _of(rows: Sequence[dict[str, Any]], split: str) -> tuple[str, ...]:
    return tuple(row["instruction"] for row in rows if row["split"] == split)


@contextmanager
def serving(month: Month) -> Iterator[str]:
    """`serve --rag` on a free port; its address."""
    command = month.command("serve", "--port", "0", "--rag", FAMILY)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None, "a pipe was asked for"
        try:
            for line in process.stderr:
                if found := re.search(r"serving (http://\S+)", line):
                    yield found[1]
                    break
        finally:
            process.terminate()
            process.stderr.close()


def ask_all(month: Month, address: str) -> None:
    """Ask every fact in every phrasing, by two clients in turn."""
    from ollama import Client
    from openai import OpenAI

    ours = Client(address, headers={"X-Ollama-FT-Client": "till"}, timeout=600)
    theirs = OpenAI(
        base_url=f"{address}/v1",
        api_key="none",
        default_headers={"X-Ollama-FT-Client": "web"},
        timeout=600,
    )
    number = 0
    for fact in month.facts:
        for question in fact.asked:
            turns = [{"role": "user", "content": question}]
            if number % 2:
                theirs.chat.completions.create(model=FAMILY, messages=turns, max_tokens=64)  # type: ignore[arg-type]
            else:
                ours.chat(FAMILY, turns, options={"num_predict": 64})
            number += 1


def opine(month: Month, address: str) -> dict[str, int]:
    """What the owner thinks of the answers, through the HTTP endpoint; the opinions counted."""
    import httpx

    by_question = {row["question"]: row for row in logged(month)}
    counts = {"up": 0, "down": 0, "corrected": 0}
    for fact in month.facts:
        for place, question in enumerate(fact.asked):
            row = by_question[question]
            body = {"id": row["uid"], "by": "owner"}
            right = fact.is_in(row["answer"])
            if place < LOOKED_AT and right and row["done_reason"] == "stop":
                body["rating"] = "up"
            elif place < LOOKED_AT:
                body["correct"] = fact.text
            elif right:
                continue
            else:
                body["rating"] = "down"
            httpx.post(f"{address}/ollama-ft/feedback", json=body).raise_for_status()
            counts[body.get("rating", "corrected")] += 1
    return counts


def poison(month: Month, address: str) -> int:
    """Somebody asks what is known already, and "corrects" it; how often."""
    import httpx
    from ollama import Client

    client = Client(address, headers={"X-Ollama-FT-Client": "mallory"}, timeout=600)
    for fact in month.facts:
        for question in fact.asked:
            turns = [{"role": "user", "content": question}]
            client.chat(FAMILY, turns, options={"num_predict": 8})
    rows = logged(month, "--client", "mallory")
    for row in rows:
        body = {"id": row["uid"], "correct": "Ask the moon about it.", "by": "mallory"}
        httpx.post(f"{address}/ollama-ft/feedback", json=body).raise_for_status()
    return len(rows)


def known(address: str, tag: str, facts: Sequence[Fact]) -> int:
    """How many held-out phrasings a version answers right without any context."""
    from ollama import Client

    client = Client(address, headers=DIRECT, timeout=600)
    right = 0
    for fact in facts:
        for question in fact.held_out:
            turns = [{"role": "user", "content": question}]
            said = client.chat(tag, turns, options={"num_predict": 64, "temperature": 0})
            right += fact.is_in(said.message.content or "")
    return right


def live(month: Month) -> str:
    """The tag that is live."""
    rows = json.loads(month.ft("list", "--json"))["versions"]
    return next(f"{row['family']}:v{row['number']}" for row in rows if "live" in row["status"])


def force_newest(month: Month, old: str, reason: str) -> str:
    """Where the gate left the old version live, make the newest live by force; what is live now."""
    if live(month) == old:
        made = json.loads(month.ft("list", "--json"))["versions"]
        newest = max(row["number"] for row in made)
        month.ft("promote", f"{FAMILY}:v{newest}", "--force", "--reason", reason)
    return live(month)


def shelve(month: Month) -> None:
    """A family on the bare base, the facts on its shelf, and a suite of those held out."""
    guide = month.home.parent / "guide.md"
    text = "".join(f"## {fact.asked[0]}\n\n{fact.text}\n\n" for fact in month.facts)
    guide.write_text(f"# The shop\n\n{text}", "utf-8")
    month.ft("new", FAMILY, "--from", "smollm2:135m")
    month.ft("knowledge", "add", str(guide))
    suite = month.home.parent / "held-out.jsonl"
    rows = [
        {"question": question, "answer": fact.text, "accept": list(fact.accept)}
        for fact in month.facts
        for question in fact.held_out
    ]
    suite.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    month.ft("suite", "add", "held-out", "--from", str(suite), "--family", FAMILY)


def run(month: Month) -> dict[str, bool]:
    """The month; what holds at its end."""
    shelve(month)
    with serving(month) as address:
        claims = learn(month, address)
        first = live(month)
        claims |= refuse(month, address, first)
        return claims | unlearn(month, address, first)


def learn(month: Month, address: str) -> dict[str, bool]:
    """Asked, corrected, trained; and the same again."""
    of = len(month.facts) * HELD_OUT
    before = known(address, f"{FAMILY}:v0", month.facts)
    month.tell("held-out phrasings, no context", f"{FAMILY}:v0", before, of)
    ask_all(month, address)
    answers = {row["question"]: row["answer"] for row in logged(month)}
    right = sum(fact.is_in(answers[q]) for fact in month.facts for q in fact.asked)
    month.tell("asked through serve --rag", f"{FAMILY}:v0", right, len(answers))
    print(f"  opinions: {opine(month, address)}")
    print(month.ft("retrain", FAMILY, "--from-logs", "--dry-run"))
    print(month.retrain(code=(0, 4)))
    first = force_newest(month, f"{FAMILY}:v0", "too few questions, for a demo")
    after = known(address, first, month.facts)
    month.tell("held-out phrasings, no context", first, after, of)
    print(month.retrain())
    return {
        "the live version answers clearly more than before": after >= before + of // 4,
        "the same log again changes nothing": live(month) == first,
    }


def refuse(month: Month, address: str, first: str) -> dict[str, bool]:
    """A poisoned batch, and the way back."""
    print(f"  {poison(month, address)} poisoned corrections")
    print(month.retrain(code=3))
    claims = {"the gate refuses the poisoned batch": live(month) == first}
    month.ft("forget", "--client", "mallory", "--yes")
    month.ft("rollback", "--reason", "to see the way back")
    claims["rollback"] = live(month) == f"{FAMILY}:v0"
    month.ft("promote", first, "--reason", "the best so far")
    return claims


def unlearn(month: Month, address: str, first: str) -> dict[str, bool]:
    """One fact is forgotten; the others stay."""
    forgotten, others = month.facts[0], month.facts[1:]
    ids = [
        str(row["id"])
        for row in logged(month)
        if row["question"] in forgotten.asked or forgotten.is_in(row["answer"])
    ]
    print(month.ft("forget", *ids, "--yes"))
    print(month.retrain(code=(0, 3, 4)))
    # The suite asks for what was forgotten, so the gate may well say no.
    last = force_newest(month, first, "it is meant to know less")
    counts = {
        (tag, what): known(address, tag, some)
        for what, some in (("the forgotten fact", [forgotten]), ("all other facts", others))
        for tag in (first, last)
    }
    for (tag, what), right in counts.items():
        of = HELD_OUT if what == "the forgotten fact" else HELD_OUT * len(others)
        month.tell(what, tag, right, of)
    kept, had = counts[last, "all other facts"], counts[first, "all other facts"]
    return {
        "a version without it is live": last != first,
        "the forgotten fact is not known": counts[last, "the forgotten fact"] == 0,
        "the others still are": kept >= 0.8 * had > 0,
    }


def logged(month: Month, *words: str) -> list[dict[str, Any]]:
    """The exchanges in the log."""
    found: list[dict[str, Any]] = json.loads(month.ft("logs", "--json", "-n", "0", *words))[
        "exchanges"
    ]
    return found


def main() -> None:
    """Run it in a home of its own, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--facts", type=int, default=30)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        month = Month(
            home=Path(folder) / "home", changes=given.changes, facts=read_facts(given.facts)
        )
        claims = run(month)
    print("\n| what | version | right |\n|---|---|---|")
    for row in month.rows:
        print("| " + " | ".join(row) + " |")
    for claim, holds in claims.items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
    sys.exit(0 if all(claims.values()) else 1)


if __name__ == "__main__":
    main()
