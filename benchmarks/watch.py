"""How often watching cries wolf, what it sees, and what drift costs on a million exchanges.

python benchmarks/watch.py drift        how often nothing is called drift, how often a shift is
python benchmarks/watch.py check        the same for decay, looked at daily through a probation
python benchmarks/watch.py million DIR  fills a log there, then times drift on it
"""

import json
import random
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from ollama_ft.core.home import shipped
from ollama_ft.core.logbook import open_log
from ollama_ft.kinds.decay import Rate, compare
from ollama_ft.kinds.drift import lexical_vectors
from ollama_ft.stages import drift

SIDE = 200  # conversations of each side
DRIFTS = 100  # draws for each line of the table
CHECKS = 4_000
HEAD = ("Hi, {}", "{}", "Please tell me: {}", "{} Thanks!", "quick question, {}")


def pools() -> tuple[list[str], list[str]]:
    """Questions on the first and on the second half of the shipped facts, in their order."""
    rows = (shipped() / "data" / "faq.jsonl").read_text(encoding="utf-8").splitlines()
    asked = list(dict.fromkeys(_question(json.loads(row)) for row in rows))
    return asked[: len(asked) // 2], asked[len(asked) // 2 :]


def _question(row: dict) -> str:
    turns = row.get("messages") or row.get("conversations") or []
    return next((t["content"] for t in turns if t["role"] == "user"), "") or str(
        row.get("instruction") or row.get("prompt") or row.get("question")
    )


def side(rng: random.Random, known: list[str], new: list[str], share: float) -> list[drift.Asked]:
    def one(place: int) -> drift.Asked:
        text = rng.choice(new if rng.random() < share else known)
        rating = rng.choices(("up", "down", None), (0.2, 0.05, 0.75))[0]
        return drift.Asked(
            exchange=place,
            question=rng.choice(HEAD).format(text),
            answer_length=int(rng.lognormvariate(4, 0.5)),
            rating=rating,
        )

    return [one(place) for place in range(SIDE)]


@cache
def vector(text: str):
    return lexical_vectors([text])[0]


def vectors(texts):
    import numpy as np

    return np.stack([vector(text) for text in texts])


def drifts() -> None:
    known, new = pools()
    print(f"drift, {SIDE} conversations against {SIDE}, by letters, {DRIFTS} draws a line")
    print("of new subjects   called drift   by its questions   by the share unlike")
    for share in (0.0, 0.2, 0.4, 0.8):
        any_one = by_questions = by_share = 0
        for draw in range(DRIFTS):
            rng = random.Random(draw)
            trained = drift.Trained(questions=tuple(HEAD[0].format(q) for q in known))
            now, before = side(rng, known, new, share), side(rng, known, new, 0.0)
            found, _ = drift.compare(now, before, trained, vectors)
            called = {f.name for f in found if f.drifted}
            any_one += bool(called)
            by_questions += "questions" in called
            by_share += "unlike" in called
        print(
            f"{share:>15.0%}   {any_one / DRIFTS:>12.1%}   {by_questions / DRIFTS:>16.1%}   "
            f"{by_share / DRIFTS:>18.1%}",
            flush=True,
        )


def checks() -> None:
    import numpy as np

    print(f"\ncheck, 85 % liked before (200 ratings), looked at daily for 14 days, {CHECKS} draws")
    print("liked now   ratings a day   rolled back   after days (median)   at one look on day 14")
    for now in (0.85, 0.80, 0.72, 0.60):
        for daily in (3, 10, 50):
            days, last = [], 0
            for draw in range(CHECKS):
                rng = np.random.default_rng(draw)
                before = Rate(good=int(rng.binomial(200, 0.85)), of=200)
                first, final = _probation(rng, before, now, daily)
                days += [first] if first else []
                last += final
            median = sorted(days)[len(days) // 2] if days else 0
            print(
                f"{now:>9.0%}   {daily:>13}   {len(days) / CHECKS:>11.1%}   {median:>19}   "
                f"{last / CHECKS:>21.1%}",
                flush=True,
            )


def _probation(rng, before: Rate, now: float, daily: int) -> tuple[int, bool]:
    """The first day on which it is called decayed (0: never), and whether it is on the last."""
    good = first = 0
    final = False
    for day in range(1, 15):
        good += int(rng.binomial(daily, now))
        final = compare(before, Rate(good=good, of=day * daily)).verdict == "decayed"
        first = first or (day if final else 0)
    return first, final


def fill(path: Path, count: int) -> None:
    """Write `count` exchanges of 90 days, one in ten rated; the words to search are left out."""
    known, new = pools()
    rng, now = random.Random(1), datetime.now(UTC)
    log = open_log(path)
    messages, exchanges, feedback = [], [], []
    for n in range(count):
        at = (now - timedelta(days=90 * (1 - n / count))).isoformat(timespec="seconds")
        text = rng.choice(new if n > 0.97 * count and rng.random() < 0.2 else known)
        ask, reply = 2 * n + 1, 2 * n + 2
        messages.append(
            (
                ask,
                at,
                ask.to_bytes(8, "big"),
                None,
                "user",
                f"{text} ({rng.randrange(count)})",
                "{}",
            )
        )
        messages.append((reply, at, reply.to_bytes(8, "big"), ask, "assistant", "Yes. " * 20, "{}"))
        exchanges.append((n + 1, at, f"{n:016d}", ask, ask, reply))
        if n % 10 == 0:
            feedback.append((at, n + 1, rng.choice(("up", "up", "up", "down")), "", "me"))
        if len(exchanges) == 50_000 or n == count - 1:
            _insert(log, messages, exchanges, feedback)
            messages, exchanges, feedback = [], [], []
    log.close()


def _insert(log, messages, exchanges, feedback) -> None:
    with log.conn:
        log.conn.executemany("insert into messages values (?, ?, ?, ?, ?, ?, ?)", messages)
        log.conn.executemany(
            "insert into exchanges (id, at, uid, prompt, question, reply, family, version, "
            "version_digest, model, client, path, thinking, options_json, context_json, "
            "done_reason, status, error, source, place, redacted) values (?, ?, ?, ?, ?, ?, "
            "'bot', 'bot:v1', 'd', 'bot', 'shop', '/api/chat', '', '{}', '[]', "
            "'stop', 'complete', '', 'proxy', '', 0)",
            exchanges,
        )
        log.conn.executemany(
            "insert into feedback (at, exchange, rating, correction, by) values (?, ?, ?, ?, ?)",
            feedback,
        )


def million(folder: Path, count: int) -> None:
    path = folder / "log.db"
    if not path.exists():
        began = time.perf_counter()
        fill(path, count)
        print(f"filled {count} exchanges in {time.perf_counter() - began:.0f} s")
    log = open_log(path)
    now = datetime.now(UTC)
    week = (now - timedelta(days=7)).isoformat(timespec="seconds")
    until = (now + timedelta(days=1)).isoformat(timespec="seconds")
    began, cpu = time.perf_counter(), time.process_time()
    recent = drift.sample(log, "bot", week, until)
    former = drift.sample(log, "bot", "2000", week)
    drawn, drawn_cpu = time.perf_counter() - began, time.process_time() - cpu
    found, _ = drift.compare(recent, former, drift.Trained(), lexical_vectors)
    took, took_cpu = time.perf_counter() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = path.stat().st_size / 1e6
    print(
        f"{count} exchanges, {size:.0f} MB: sampled {len(recent)} + {len(former)} in {drawn:.1f} s "
        f"({drawn_cpu:.1f} s of CPU), all in {took:.1f} s ({took_cpu:.1f} s), {memory:.2f} GB"
    )
    for each in found:
        print(f"  {'!!' if each.drifted else 'ok'} {each.name}: {each.text}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["million"]:
        million(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000)
    else:
        {"drift": drifts, "check": checks}[sys.argv[1]]()
