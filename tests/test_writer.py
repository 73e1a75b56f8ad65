"""The way to the log: what is lost is counted, what is acknowledged is kept, whatever happens."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ollama_ft.core.errors import BadInput
from ollama_ft.core.exchange import Rated, Verdict, to_line
from ollama_ft.core.logbook import Pen, open_log
from ollama_ft.runtime.heard import Overheard
from ollama_ft.serve import writer as writing
from ollama_ft.serve.spool import Spool, SpoolFull
from ollama_ft.serve.writer import Keeping, Writer
from tests.flood import flood
from tests.serving import eventually
from tests.test_logs import heard

ROOT = Path(__file__).parent.parent


def overheard(number):
    line = {"message": {"content": f"answer {number}"}, "done": True}
    return Overheard(
        uid=f"{number:016d}",
        at="2026-11-25T10:00:00+00:00",
        path="/api/chat",
        body={"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]},
        client="",
        family="",
        version="",
        version_digest="",
        status=200,
        pieces=[json.dumps(line).encode()],
    )


@contextmanager
def a_writer(home, **more):
    made = Writer(Keeping(path=home.log, clean=None, **more))
    made.start()
    try:
        yield made
    finally:
        made.close()


def ask(writer, numbers):
    for number in numbers:
        item = overheard(number)
        writer.begin(item.uid)
        writer.offer(item)


def rows(home):
    log = open_log(home.log)
    try:
        return [row["uid"] for row in log.query("select uid from exchanges order by uid")]
    finally:
        log.close()


def lines(*entries):
    return [to_line(entry) for entry in entries]


def uids(numbers):
    return [f"{number:016d}" for number in numbers]


def test_what_is_offered_is_in_the_log_when_it_ends(home):
    with a_writer(home) as writer:
        ask(writer, range(50))
        writer.offer(Rated(uid=uids([7])[0], verdict=Verdict(rating="up", by="http")))
    assert rows(home) == uids(range(50))
    assert writer.state(uids([7])[0]) == "acknowledged"
    log = open_log(home.log)
    assert [row["exchange"] for row in log.table("feedback").rows] == [8]
    log.close()
    assert (home.log.with_suffix(".spool")).stat().st_size == 0


def test_while_the_log_is_locked_the_spool_takes_over(home):
    open_log(home.log).close()
    other = sqlite3.connect(home.log)
    other.execute("begin exclusive")
    with a_writer(home) as writer:
        ask(writer, range(20))
        assert eventually(lambda: writer.acknowledged == 20)
        assert writer.spooled > 0
        assert "locked" in writer.trouble
        assert writer.counts.losses.total == 0
        other.rollback()
        assert eventually(lambda: writer.spooled == 0)
        assert rows(home) == uids(range(20))
        assert writer.trouble == ""
    other.close()


def test_what_does_not_fit_the_spool_is_counted_as_lost(home):
    open_log(home.log).close()
    other = sqlite3.connect(home.log)
    other.execute("begin exclusive")
    with a_writer(home, spool_limit=6_000) as writer:
        for number in range(40):
            ask(writer, [number])
            time.sleep(0.01)
        assert eventually(lambda: writer.acknowledged + writer.counts.losses.unwritten == 40, 30)
        kept = writer.acknowledged
        assert 0 < kept < 40
        other.rollback()
        assert eventually(lambda: writer.spooled == 0)
        assert len(rows(home)) == kept
        assert "lost" in {writer.state(uid) for uid in uids(range(40))}
    other.close()


def test_on_a_full_disk_nothing_stops_and_every_loss_is_counted(home, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with a_writer(home) as writer:
        ask(writer, range(5))
        assert eventually(lambda: writer.acknowledged == 5)
        monkeypatch.setattr(Spool, "add", full)
        monkeypatch.setattr(
            Pen,
            "write",
            lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("database or disk is full")),
        )
        ask(writer, range(5, 12))
        writer.offer(Rated(uid=uids([2])[0], verdict=Verdict(rating="up")))
        assert eventually(lambda: writer.counts.losses.unwritten == 7)
        assert eventually(lambda: writer.counts.losses.feedback == 1)
        assert writer.counts.losses.total == 7
        assert "full" in writer.trouble
        monkeypatch.undo()
        time.sleep(writing._RETRY)
        ask(writer, range(12, 15))
        assert eventually(lambda: writer.acknowledged == 8)
    assert rows(home) == uids([*range(5), *range(12, 15)])


def test_a_full_queue_loses_and_counts_and_never_waits(home, monkeypatch):
    monkeypatch.setattr(writing, "QUEUE_ITEMS", 10)
    made = Writer(Keeping(path=home.log, clean=None))  # its thread does not run yet
    ask(made, range(25))
    assert made.counts.losses.full == 15
    assert [made.state(uid) for uid in uids([9, 10])] == ["waiting", "lost"]
    made.start()
    made.close()
    assert rows(home) == uids(range(10))


def test_a_queue_of_few_large_questions_is_full_too(home, monkeypatch):
    monkeypatch.setattr(writing, "QUEUE_BYTES", 1 << 20)
    made = Writer(Keeping(path=home.log, clean=None))
    for number in range(3):
        item = overheard(number)
        item.asked = 400_000
        made.begin(item.uid)
        made.offer(item)
    assert made.counts.losses.full == 1
    made.start()
    made.close()


def test_a_question_nested_too_deep_for_a_line_is_counted_as_lost_and_ends_nothing(home):
    with a_writer(home) as writer:
        deep = overheard(1)
        deep.body = {**deep.body, "format": json.loads("[" * 900 + "]" * 900)}
        writer.begin(deep.uid)
        writer.offer(deep)
        ask(writer, [2])
        assert eventually(lambda: writer.state(uids([2])[0]) == "acknowledged")
        assert writer.state(deep.uid) == "lost"
        assert writer.counts.losses.unwritten == 1
    assert rows(home) == uids([2])


def test_a_log_that_breaks_while_it_is_written_to_ends_nothing(home, monkeypatch):
    def broken(*_):
        raise BadInput("the log cannot be opened: it is damaged.", mend="move it away")

    with a_writer(home) as writer:
        monkeypatch.setattr(Pen, "write", broken)
        ask(writer, range(3))
        assert eventually(lambda: "damaged" in writer.trouble)
        monkeypatch.undo()
        ask(writer, range(3, 5))
        assert eventually(lambda: rows(home) == uids(range(5)))
        assert writer.counts.losses.total == 0


def test_what_cannot_be_redacted_is_never_written(home):
    def fails(entry):
        if entry.turns[0].content.endswith("1"):
            raise RuntimeError("cannot say what this is")
        return entry

    made = Writer(Keeping(path=home.log, clean=fails))
    made.start()
    ask(made, range(3))
    made.close()
    assert rows(home) == uids([0, 2])
    assert made.counts.losses.unwritten == 1


def test_a_half_line_in_the_spool_is_dropped_and_the_rest_comes_to_the_log(home):
    spool = Spool(home.log.with_suffix(".spool"))
    spool.add(lines(heard("one", "1", uid="0" * 16), heard("two", "2", uid="1" * 16)))
    spool.close()
    with spool.path.open("ab") as file:
        file.write(b'{"heard":{"uid":"2222')
    with a_writer(home):
        assert eventually(lambda: rows(home) == ["0" * 16, "1" * 16])
    assert spool.path.stat().st_size == 0


def test_the_spool_takes_a_batch_whole_or_not_at_all(home):
    spool = Spool(home.log.with_suffix(".spool"), limit=900)
    spool.add(lines(heard("one", "1")))
    with pytest.raises(SpoolFull):
        spool.add(lines(heard("two", "2"), heard("three", "3")))
    assert [[e.turns[0].content for e in batch] for batch in spool.batches()] == [["one"]]
    spool.close()


def test_what_a_killed_process_took_with_it_is_counted_at_the_next_start(home):
    first = Writer(Keeping(path=home.log, clean=None))
    ask(first, range(3))  # its thread never runs: as if it had been killed before
    first.counts.close()
    with a_writer(home) as second:
        assert second.counts.losses.killed == 3
        ask(second, range(10, 12))
    with a_writer(home) as third:
        assert third.counts.losses.total == 3
        assert third.counts.get("begun") == 5
    assert rows(home) == uids([10, 11])


def test_a_log_that_was_moved_away_is_not_counted_as_lost(home):
    with a_writer(home) as first:
        ask(first, range(5))
    home.log.rename(home.log.with_suffix(".old"))
    with a_writer(home) as second:
        assert second.counts.losses.total == 0
        ask(second, range(5, 7))
    with a_writer(home) as third:
        assert third.counts.losses.total == 0
    assert rows(home) == uids([5, 6])


def test_what_is_too_old_is_removed(home):
    log = open_log(home.log)
    Pen(log).write(
        [
            heard("old", "1", at="2020-01-01T00:00:00+00:00"),
            heard("new", "2", at="2999-01-01T00:00:00+00:00"),
        ]
    )
    log.close()
    with a_writer(home, retain_days=30):
        assert eventually(lambda: len(rows(home)) == 1)


# --- killed in the middle ---


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextmanager
def a_process(*command, home):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OLLAMA_FT_HOME": str(home.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def status(port):
    return httpx.get(
        f"http://127.0.0.1:{port}/ollama-ft/status", trust_env=False, timeout=30
    ).json()


def answers(port):
    try:
        return bool(status(port))
    except httpx.HTTPError:
        return False


class Watcher(threading.Thread):
    """Asks now and then what became of an exchange, and remembers those that were acknowledged."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.latest, self.acknowledged = port, [], set()

    def run(self):
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False) as http:
            while True:
                for uid in self.latest[-400::57]:
                    try:
                        state = http.get(f"/ollama-ft/exchanges/{uid}").json()["state"]
                    except httpx.HTTPError:
                        return
                    if state == "acknowledged":
                        self.acknowledged.add(uid)
                time.sleep(0.02)


EXCHANGES = int(os.environ.get("OLLAMA_FT_FLOOD", "2000"))  # 10000 is what was asked for


@pytest.mark.slow
def test_of_many_exchanges_none_that_was_acknowledged_is_lost_when_the_process_is_killed(home):
    behind, port, clients = free_port(), free_port(), 16
    questions = [f"question {number}" for number in range(EXCHANGES)]
    serve = ("ollama_ft", "--host", f"127.0.0.1:{behind}", "serve", "--port", str(port))
    watcher, answered = Watcher(port), []
    with a_process("tests.flood", str(behind), home=home) as runtime:
        assert runtime.stdout.readline() == b"ready\n"
        with a_process(*serve, home=home) as process:
            assert eventually(lambda: answers(port), 90)
            watcher.start()

            def seen(uid):
                watcher.latest.append(uid)
                answered.append(uid)
                if len(answered) == EXCHANGES // 2:
                    process.send_signal(signal.SIGKILL)

            first = asyncio.run(flood(port, questions, clients, seen=seen))
            process.wait()
        came = httpx.get(f"http://127.0.0.1:{behind}/", trust_env=False).json()["came"]
        watcher.join(10)
        with a_process(*serve, home=home) as process:
            assert eventually(lambda: answers(port), 90)
            after = status(port)
            logged = {row["uid"]: row for row in whole_rows(home)}
            assert first.broken == clients
            assert len(watcher.acknowledged) > 20
            assert watcher.acknowledged <= set(logged)
            assert after["begun"] == len(logged) + after["lost"]
            assert came <= after["begun"] <= came + clients
            assert after["lost"] == after["lost_killed"] < EXCHANGES // 2

            rest = questions[after["begun"] :]
            second = asyncio.run(flood(port, rest, clients))
            assert len(second.uids) == len(rest)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    logged = {row["uid"]: row for row in whole_rows(home)}
    asked = first.uids | second.uids
    assert set(second.uids) <= set(logged)
    assert len(logged) == after["begun"] + len(rest) - after["lost"]
    for uid, row in logged.items():
        assert row["question_text"] == asked.get(uid, row["question_text"])
        assert row["status"] == "complete"
        assert row["answer"] == f"Echo: {row['question_text']}"


def whole_rows(home):
    log = open_log(home.log)
    try:
        assert log.execute("pragma integrity_check").fetchone() == ("ok",)
        return list(log.query("select * from exchanges_view"))
    finally:
        log.close()
