"""How long the log takes when there is much in it: `logs -q`, `retrain --dry-run` and `drift`.

    python -m benchmarks.logs                      # 1,000,000
    python -m benchmarks.logs 100000
    python -m benchmarks.logs 1000000 FOLDER       # kept there, and used again

The exchanges are made of the words of data/, one in five Chinese; a tenth of them goes on with an
earlier conversation, one in fifty has an opinion, half were answered from a document. They enter
through the log's own pen, in its own batches. Each command runs as people run it, in a process of
its own, five times: the median of its wall seconds, and the most memory it took, beside
`ollama-ft --help` in the same run. It fails if a search takes longer than two seconds, or what
looks at the whole log longer than two minutes or more than a gigabyte.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ollama_ft.core.catalog import append, newest, open_catalog
from ollama_ft.core.exchange import Heard, Turn, Verdict, uid_for
from ollama_ft.core.logbook import Pen, open_log
from ollama_ft.core.records import Base, Family

DATA = Path(__file__).parent.parent / "data"
ROUNDS = 5
BATCH = 2_000
MOST_SECONDS = 2.0  # of a search
MOST_OF_ALL = 120.0  # seconds of what looks at the whole log …
MOST_MEMORY = 1_000.0  # … and megabytes
FAMILIES = ("support", "sales", "bot")
# What is measured: a name, and the command.
SEARCHES = (
    ("--help, to compare", ["--help"]),
    ("logs", ["logs"]),
    ("logs -q, a common word", ["logs", "-q", "order"]),
    ("logs -q, two words", ["logs", "-q", "refund weekend"]),
    ("logs -q, a rare word", ["logs", "-q", "parcel777777"]),
    ("logs -q, two Chinese characters", ["logs", "-q", "退货"]),
    ("logs -q, one Chinese character", ["logs", "-q", "货"]),
    ("logs -q, a Chinese phrase", ["logs", "-q", "星期天开门"]),
    ("logs -q, thumbs down", ["logs", "-q", "order", "--feedback", "down"]),
    ("logs, corrected only", ["logs", "--feedback", "corrected"]),
    ("logs of a client", ["logs", "--client", "client-7"]),
    ("logs --since", ["logs", "--since", "2025-12-01", "--family", "sales"]),
    ("logs --status", ["logs", "--status"]),
    ("logs show last", ["logs", "show", "last"]),
)
WHOLE = (
    ("retrain --dry-run", ["retrain", "support", "--from-logs", "--dry-run"]),
    ("drift", ["drift", "--family", "support", "--lexical"]),
)
FOUND = 8  # the exit code where drift was found
ENGLISH = (
    "When is my order {n} sent?",
    "Can I have a refund for order parcel{n}, bought on the weekend?",
    "Do you open on Sundays, and where is shop {n}?",
    "My bottle {n} leaks. What does the warranty say about it?",
)
CHINESE = (
    "订单{n}什么时候发货？",
    "我要退货，订单号{n}。",
    "你们星期天开门吗？店号{n}",
    "水壶{n}漏水，保修多久？",
)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(sys.argv[2] if len(sys.argv) > 2 else temporary)
        a_family(home / "registry" / "catalog.db", "support")
        fill(home / "registry" / "log.db", count)
        sys.exit(0 if measure(home) else 1)


def a_family(path: Path, name: str) -> None:
    """A family without any version, unless it is there."""
    db = open_catalog(path)
    if newest(db, Family, name=name) is None:
        digest = "sha256:" + "0" * 64
        base = append(
            db,
            Base(
                name="none",
                pinned="none",
                blob_digest=digest,
                manifest_digest=digest,
                size=0,
                architecture="llama",
                parameter_size="",
                quantization="",
                licence="",
                source_json="{}",
            ),
        )
        append(db, Family(name=name, base=base.key, system="", template="", parameters_json="{}"))
    db.close()


def fill(path: Path, count: int) -> None:
    """Write the exchanges, unless an earlier run has left them there."""
    log = open_log(path)
    (there,) = log.execute("select count(*) from exchanges").fetchone()
    started = time.perf_counter()
    pen, batch = Pen(log), []
    for heard in exchanges(there, count):
        batch.append(heard)
        if len(batch) == BATCH:
            pen.write(batch)
            batch.clear()
    pen.write(batch)
    seconds = time.perf_counter() - started
    log.close()
    size = path.stat().st_size / 1e6
    made = f", {(count - there) / seconds:,.0f} written in a second" if count > there else ""
    print(f"{count:,} exchanges, {size:,.0f} MB{made}\n", flush=True)


def exchanges(start: int, end: int) -> Iterator[Heard]:
    """The same every time."""
    spread = random.Random(5 + start)
    answers = {name: outputs(name) for name in ("faq.jsonl", "faq-zh.jsonl")}
    earlier: list[tuple[Turn, ...]] = [()] * 500
    begun = time.time() - 86_400 * 365
    for number in range(start, end):
        is_chinese = spread.random() < 0.2
        form = spread.choice(CHINESE if is_chinese else ENGLISH)
        question = Turn(role="user", content=form.format(n=number))
        before = spread.choice(earlier) if spread.random() < 0.1 else ()
        said = spread.choice(answers["faq-zh.jsonl" if is_chinese else "faq.jsonl"])
        reply = Turn(role="assistant", content=said)
        earlier[number % len(earlier)] = (*before[-6:], question, reply)
        family = spread.choice(FAMILIES)
        at = time.gmtime(begun + 86_400 * 365 * number / end)
        yield Heard(
            uid=uid_for("benchmark", str(number)),
            at=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", at),
            family=family,
            version=f"{family}:v{1 + 5 * number // end}",
            version_digest="sha256:" + "0" * 64,
            model=family,
            client=f"client-{spread.randrange(50)}",
            path="/api/chat",
            turns=(*before, question),
            reply=reply,
            first_ms=50.0,
            total_ms=900.0,
            prompt_tokens=60,
            answer_tokens=30,
            done_reason="stop",
            context=({"path": "faq.md", "text": said},) if spread.random() < 0.5 else (),
            verdict=an_opinion(spread, said) if spread.random() < 0.02 else None,
        )


def an_opinion(spread: random.Random, said: str) -> Verdict:
    rating = spread.choice(("up", "up", "down", "corrected"))
    return Verdict(rating=rating, correction=said if rating == "corrected" else "", by="benchmark")


def outputs(name: str) -> list[str]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return sorted({json.loads(line)["output"] for line in lines})


def measure(home: Path) -> bool:
    """Print the table; whether every search is quick enough."""
    fine = True
    print(f"{'COMMAND':<34}   SECONDS   PEAK MB")
    for name, words in (*SEARCHES, *WHOLE):
        runs = [run(home, words) for _ in range(ROUNDS)]
        seconds, peak = statistics.median(s for s, _ in runs), max(m for _, m in runs)
        whole = (name, words) in WHOLE
        fine &= seconds <= (MOST_OF_ALL if whole else MOST_SECONDS)
        fine &= peak <= MOST_MEMORY
        print(f"{name:<34} {seconds:>9.2f} {peak:>9.0f}", flush=True)
    return fine


def run(home: Path, words: list[str]) -> tuple[float, float]:
    """Wall seconds and megabytes at most of one command."""
    command = [sys.executable, "-m", "ollama_ft", "--progress", "none", *words]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=os.environ | {"OLLAMA_FT_HOME": str(home)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, FOUND):
        sys.exit(f"{' '.join(words)} failed with {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
