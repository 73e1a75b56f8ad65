"""The log of questions and answers: a SQLite file of its own, written in batches, read by all.

Messages are kept once: a message's hash covers its parent's, so the turns that every request of a
conversation repeats cost nothing. `words` has no copy of the texts, only what finds them.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import BUSY_MS, prepared
from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.exchange import Entry, Heard, Rated, Turn, Verdict, is_uid, storable
from ollama_ft.core.log_migrations import log_migrations
from ollama_ft.core.log_records import Exchange
from ollama_ft.core.records import utc_now
from ollama_ft.core.sqlite import Database
from ollama_ft.core.words import spaced

if TYPE_CHECKING:
    import sqlite3

STORED = "stored"  # the tally of exchanges that the proxy ever brought
_CHUNK = 500  # rows that are deleted in one transaction
_MERGED = 500  # pages of the search that are merged in one

_EXCHANGE = (
    "at", "uid", "family", "version", "version_digest", "model", "client", "path", "prompt",
    "question", "reply", "thinking", "options_json", "context_json", "first_ms", "total_ms",
    "prompt_tokens", "answer_tokens", "done_reason", "status", "error", "source", "place",
    "redacted",
)  # fmt: skip
_INSERT = (
    f"insert into exchanges ({', '.join(_EXCHANGE)}) values ({', '.join('?' * len(_EXCHANGE))})"
)


def open_log(path: Path, *, busy_ms: int = BUSY_MS) -> Database:
    """Open (or make) the log at `path`, brought up to today's tables.

    `busy_ms` is how long a locked file is waited for. What is deleted is overwritten, not only
    unlinked. A commit survives the process, but perhaps not a power cut: a full sync for every
    batch would cost more than a question is worth.

    Raises BadInput if the file is not a SQLite database, sqlite3.OperationalError if it is locked
    or the disk is full.
    """
    import sqlite3

    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=busy_ms / 1000, check_same_thread=False)
    try:
        connection.execute("pragma secure_delete = on")
        return prepared(connection, log_migrations, synchronous="normal")
    except sqlite3.OperationalError:
        connection.close()
        raise
    except sqlite3.DatabaseError as error:
        connection.close()
        raise BadInput(
            f"{path} cannot be opened as a log: {error}.",
            mend=f"move {path.name} away and start anew",
        ) from error


@contextmanager
def writing(db: Database) -> Iterator[None]:
    """One transaction that waits for its turn at once: a reader that becomes a writer cannot."""
    db.conn.execute("begin immediate")
    try:
        yield
        db.conn.execute("commit")
    except BaseException:
        db.conn.rollback()
        raise


class Pen:
    """Writes entries."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._rows: dict[bytes, int] = {}  # messages of one transaction: later they may be removed

    def write(self, entries: Iterable[Entry]) -> int:
        """Write all entries, or none if it raises; return how many exchanges are new.

        An exchange whose uid is there already is passed over but for a new verdict, so that a
        batch may be written twice. A verdict on an exchange that is not there is passed over too.

        Raises sqlite3.OperationalError if the file is locked or the disk is full.
        """
        batch = list(entries)
        try:
            return self._write(batch)
        except UnicodeEncodeError:  # seldom, so that nobody pays for looking first
            return self._write([storable(entry) for entry in batch])

    def _write(self, batch: list[Entry]) -> int:
        self._rows = {}
        with writing(self.db):
            return sum(self._one(self.db.conn, entry) for entry in batch)

    def _one(self, sql: "sqlite3.Connection", entry: Entry) -> int:
        if isinstance(entry, Rated):
            found = sql.execute("select id from exchanges where uid = ?", [entry.uid]).fetchone()
            if found:
                rate(sql, found[0], entry.verdict)
            return 0
        return self._exchange(sql, entry)

    def _exchange(self, sql: "sqlite3.Connection", heard: Heard) -> int:
        known = sql.execute("select id from exchanges where uid = ?", [heard.uid]).fetchone()
        if known:
            if heard.verdict:
                rate(sql, known[0], heard.verdict)
            return 0
        rows = self._messages(sql, heard)
        question = rows[heard.question_at]
        reply = rows[-1] if heard.reply is not None else None
        prompt = rows[len(heard.turns) - 1]
        values: dict[str, object] = {"prompt": prompt, "question": question, "reply": reply}
        values |= {
            "options_json": json.dumps(heard.options, ensure_ascii=False),
            "context_json": json.dumps(heard.context, ensure_ascii=False),
        }
        row = [values[name] if name in values else getattr(heard, name) for name in _EXCHANGE]
        key = sql.execute(_INSERT, row).lastrowid
        assert key is not None, "an insert gives the row's id"
        _index(sql, key, heard.turns[heard.question_at], heard.reply)
        if heard.source == "proxy":
            sql.execute(
                "insert into tallies values (?, 1) "
                "on conflict (name) do update set value = value + 1",
                [STORED],
            )
        if heard.verdict:
            rate(sql, key, heard.verdict)
        return 1

    def _messages(self, sql: "sqlite3.Connection", heard: Heard) -> list[int]:
        """The rows of all turns, the reply's last; made where they are not there."""
        rows: list[int] = []
        parent, row = b"", None
        for turn in (*heard.turns, *([heard.reply] if heard.reply else [])):
            extra = json.dumps(turn.extra, ensure_ascii=False, sort_keys=True)
            parent = message_hash(parent, turn, extra)
            row = self._message(sql, parent, row, turn, extra, heard.at)
            rows.append(row)
        return rows

    def _message(
        self,
        sql: "sqlite3.Connection",
        key: bytes,
        parent: int | None,
        turn: Turn,
        extra: str,
        at: str,
    ) -> int:
        if (known := self._rows.get(key)) is not None:
            return known
        found = sql.execute("select id from messages where key_hash = ?", [key]).fetchone()
        if found:
            row = int(found[0])
        else:
            made = sql.execute(
                "insert into messages (at, key_hash, parent, role, content, extra_json) "
                "values (?, ?, ?, ?, ?, ?)",
                [at, key, parent, turn.role, turn.content, extra],
            ).lastrowid
            assert made is not None, "an insert gives the row's id"
            row = made
        self._rows[key] = row
        return row


def message_hash(parent: bytes, turn: Turn, extra: str) -> bytes:
    """What tells a message from all others: SHA-256 over its parent's hash and its parts."""
    parts = (turn.role, turn.content, extra)
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(parent + joined.encode("utf-8", "surrogatepass")).digest()


def rate(sql: "sqlite3.Connection", exchange: int, verdict: Verdict) -> None:
    """Append a verdict, unless the newest one by the same hand says the same."""
    same = sql.execute(
        "select rating, correction from feedback where exchange = ? and by = ? "
        "order by id desc limit 1",
        [exchange, verdict.by],
    ).fetchone()
    if same != (verdict.rating, verdict.correction):
        sql.execute(
            "insert into feedback (at, exchange, rating, correction, by) values (?, ?, ?, ?, ?)",
            [
                verdict.at or utc_now(),
                exchange,
                verdict.rating,
                verdict.correction,
                verdict.by,
            ],
        )


def _index(
    sql: "sqlite3.Connection", key: int, question: Turn, reply: Turn | None, *, out: bool = False
) -> None:
    """Put an exchange into the search, or take it out, which FTS5 needs the same words for."""
    texts = [spaced(question.content), spaced(reply.content if reply else "")]
    if out:
        sql.execute(
            "insert into words (words, rowid, question, answer) values ('delete', ?, ?, ?)",
            [key, *texts],
        )
    else:
        sql.execute("insert into words (rowid, question, answer) values (?, ?, ?)", [key, *texts])


def find_exchange(db: Database, ref: str) -> Exchange:
    """The exchange that `ref` means: its number, its uid, or "last". Raises NotFound, BadInput."""
    values: list[int | str]
    if ref == "last":
        where, values = "1 order by id desc limit 1", []
    elif ref.isascii() and ref.isdigit() and len(ref) < 16:
        where, values = "id = ?", [int(ref)]
    elif is_uid(ref):
        where, values = "uid = ?", [ref]
    else:
        raise BadInput(
            f"{ref!r} is not an exchange: write its number, its id, or `last`.",
            mend="ollama-ft logs",
        )
    row = next(db.query(f"select * from exchanges where {where}", values), None)
    if row is None:
        raise NotFound(f"There is no exchange {ref} in the log.", mend="ollama-ft logs")
    return Exchange(**row)


def conversation(db: Database, message: int) -> list[Turn]:
    """The turns from the first one to this message."""
    rows = db.query(
        """
        with recursive chain(id, parent, role, content, extra_json, depth) as (
          select id, parent, role, content, extra_json, 0 from messages where id = ?
          union all
          select m.id, m.parent, m.role, m.content, m.extra_json, depth + 1
          from messages m join chain on m.id = chain.parent
        )
        select role, content, extra_json from chain order by depth desc
        """,
        [message],
    )
    return [
        Turn(role=row["role"], content=row["content"], extra=json.loads(row["extra_json"]))
        for row in rows
    ]


def remove(db: Database, exchanges: Sequence[int], *, last: bool = True) -> int:
    """Delete exchanges, what was thought of them, and messages that nothing else needs.

    In small transactions, so that a writer waits little. Returns how many were there. Their words
    leave the log's file too, unless more removals follow and this is not the `last`.
    """
    removed = 0
    for start in range(0, len(exchanges), _CHUNK):
        with writing(db):
            for key in exchanges[start : start + _CHUNK]:
                removed += _remove(db.conn, key)
    if removed and last:
        _scour(db)
    return removed


def _scour(db: Database) -> None:
    """Take the words of what was removed out of the file, not only out of what is found.

    The search keeps the words of a deleted row until its parts are merged, and the write-ahead log
    its pages until it is begun anew. In small steps, so that a writer waits little.
    """
    pages = -_MERGED  # below 0: all parts are to become one
    while True:
        before = db.conn.total_changes
        with writing(db):
            db.conn.execute("insert into words (words, rank) values ('merge', ?)", [pages])
        if db.conn.total_changes - before < 2:  # SQLite's way to say that nothing was left to do
            break
        pages = _MERGED
    db.execute("pragma wal_checkpoint(truncate)").fetchall()


def _remove(sql: "sqlite3.Connection", key: int) -> int:
    row = sql.execute(
        "select e.prompt, e.question, e.reply, q.content, r.content from exchanges e "
        "join messages q on q.id = e.question left join messages r on r.id = e.reply "
        "where e.id = ?",
        [key],
    ).fetchone()
    if row is None:
        return 0
    prompt, question, reply, asked, answered = row
    turn = Turn(role="", content=asked)
    _index(sql, key, turn, Turn(role="", content=answered or ""), out=True)
    sql.execute("delete from feedback where exchange = ?", [key])
    sql.execute("delete from exchanges where id = ?", [key])
    for message in (reply, prompt, question):
        _sweep(sql, message)
    return 1


def _sweep(sql: "sqlite3.Connection", message: int | None) -> None:
    """Delete a message that nothing refers to, then its parent, and so on up."""
    while message is not None:
        used = sql.execute(
            "select exists (select 1 from messages where parent = :id) "
            "or exists (select 1 from exchanges where prompt = :id) "
            "or exists (select 1 from exchanges where question = :id) "
            "or exists (select 1 from exchanges where reply = :id)",
            {"id": message},
        ).fetchone()[0]
        if used:
            return
        found = sql.execute("select parent from messages where id = ?", [message]).fetchone()
        sql.execute("delete from messages where id = ?", [message])
        message = found[0] if found else None


def stored(db: Database) -> int:
    """How many exchanges the proxy ever brought here, deleted ones included."""
    row = db.execute("select value from tallies where name = ?", [STORED]).fetchone()
    return int(row[0]) if row else 0


def older_than(db: Database, moment: str, most: int) -> list[int]:
    """The oldest exchanges before an ISO time, at most so many."""
    rows = db.execute(
        "select id from exchanges where at < ? order by at limit ?", [moment, most]
    ).fetchall()
    return [row[0] for row in rows]
