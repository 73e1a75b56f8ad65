"""The SQLite catalog, in three verbs: append, every, newest. Nothing updates, nothing deletes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ollama_ft.core.errors import BadInput
from ollama_ft.core.migrations import migrations
from ollama_ft.core.records import Record
from ollama_ft.core.sqlite import Database, Migrations

if TYPE_CHECKING:
    import sqlite3

R = TypeVar("R", bound=Record)

BUSY_MS = 10_000


def open_catalog(path: Path) -> Database:
    """Open (or make) the catalog at `path`, brought up to today's tables.

    WAL, so that readers never wait for a writer; foreign keys on, so that a row's parents exist.

    Raises BadInput if the file is not a SQLite database; it is left as it was.
    """
    import sqlite3

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=BUSY_MS / 1000)
        return prepared(connection, migrations, synchronous="full")
    except sqlite3.DatabaseError as error:
        raise BadInput(
            f"{path} cannot be opened as a catalog: {error}.",
            mend=f"bring it back from a copy, or move it away and start anew: mv {path} {path}.bad",
        ) from error


def prepared(connection: "sqlite3.Connection", steps: Migrations, *, synchronous: str) -> Database:
    """The database of a connection, in WAL, with foreign keys, and with today's tables."""
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma foreign_keys = on")
    connection.execute(f"pragma synchronous = {synchronous}")
    db = Database(connection)
    if steps.pending(db):
        steps.apply(db)
    return db


def append(db: Database, record: R) -> R:
    """Store `record` as a new row; return it with its id."""
    return replace(record, id=db.table(record.table).insert(asdict(record)).last_pk)


def append_all(db: Database, records: Sequence[R]) -> None:
    """Store many records of one kind as new rows, all of them or none."""
    if records:
        with db.atomic():
            db.table(records[0].table).insert_all(map(asdict, records))


def every(db: Database, kind: type[R], **where: object) -> list[R]:
    """All rows of one kind whose columns equal `where`, newest first; empty if none."""
    return list(_rows(db, kind, where, limit=None))


def newest(db: Database, kind: type[R], **where: object) -> R | None:
    """The last row appended that matches `where`; None if none."""
    return next(_rows(db, kind, where, limit=1), None)


def row(db: Database, kind: type[R], key: int | None) -> R:
    """The row with this id. A foreign key guarantees that it is there."""
    found = newest(db, kind, id=key)
    assert found is not None, f"{kind.table} has no row {key}, though a foreign key names it"
    return found


def _rows(
    db: Database, kind: type[R], where: Mapping[str, object], limit: int | None
) -> Iterator[R]:
    sql = " and ".join(f"{column} is :{column}" for column in where) or None
    rows = db.table(kind.table).rows_where(sql, dict(where), order_by="id desc", limit=limit)
    return (kind(**row) for row in rows)
