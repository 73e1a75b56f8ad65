"""The rows of tables: CSV and TSV, Parquet, Arrow, a SQLite query, a folder of `datasets`.

Each yields (row number, row as a dictionary) and holds a batch of rows at most.
"""

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.encodings import open_text
from ollama_ft.kinds.json_rows import LONGEST, FileFault

Rows = Iterator[tuple[int, object]]

BATCH = 512  # rows held at once; a row of a conversation is a few kB
_DELIMITERS = ",;\t|"


def csv_rows(path: Path, delimiter: str = "") -> Rows:
    """The rows of a CSV file by the names in its first line, which is row 1, as spreadsheets count.

    The delimiter is the one of , ; tab | that stands most often in the first line. Quoted cells may
    hold line breaks. Raises BadInput where a quote is never closed: nothing behind it can be read.
    """
    csv.field_size_limit(LONGEST)
    with open_text(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        first = file.peek(4096).split(b"\n")[0].decode(errors="replace")  # type: ignore[attr-defined]
        delimiter = delimiter or max(_DELIMITERS, key=first.count)
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        number = 1
        try:
            head = [name.strip() for name in next(rows, [])]
            _check_head(path, head)
            for number, cells in enumerate(rows, start=2):
                if any(cells):
                    yield number, _named(head, cells)
        except csv.Error as error:
            raise BadInput(
                f"{path.name}, row {number + 1} (line {rows.line_num}) is not CSV: {error}.",
                mend=f"put cells with quotes or line breaks in double quotes in {path.name}",
            ) from error


def _check_head(path: Path, head: list[str]) -> None:
    # Columns without a name are what spreadsheets leave at the end.
    if twice := next((name for name in head if name and head.count(name) > 1), ""):
        raise BadInput(
            f"{path.name} has two columns that are named {twice[:60]!r}: which one counts?",
            mend=f"rename or remove one of them in {path.name}",
        )


def _named(head: list[str], cells: list[str]) -> object:
    if len(cells) != len(head):
        return FileFault(what=f"has {len(cells)} cells, but the first line names {len(head)}")
    if any("\ufffd" in cell for cell in cells):
        return FileFault(what="is not UTF-8")
    return dict(zip(head, cells, strict=True))


def parquet_rows(path: Path) -> Rows:
    """The rows of a Parquet file, from 1."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from _batches(file.iter_batches(batch_size=BATCH))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "Parquet", error) from error


def arrow_rows(path: Path) -> Rows:
    """The rows of an Arrow file or stream (Feather 2, the cache of `datasets`), from 1."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            if source.read(6) == b"ARROW1":
                file = pa.ipc.open_file(source)
                parts = (file.get_batch(n) for n in range(file.num_record_batches))
            else:
                source.seek(0)
                parts = iter(pa.ipc.open_stream(source))
            yield from _batches(parts)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "Arrow", error) from error


def _batches(batches: Iterator[Any]) -> Rows:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for row in _as_python(batch.slice(start, BATCH)):
                number += 1
                yield number, row


def _as_python(batch: Any) -> list[object]:
    """The rows of a batch; a FileFault for each with a value that Python cannot have."""
    try:
        rows: list[object] = batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            what = "is not UTF-8" if isinstance(error, UnicodeError) else f"is unreadable: {error}"
            return [FileFault(what=what)]
        return [row for at in range(batch.num_rows) for row in _as_python(batch.slice(at, 1))]
    return rows


def sqlite_rows(path: Path, query: str | None) -> Rows:
    """The rows of a query on a SQLite file, from 1; of its only table if there is no query.

    The file is opened for reading and the query can do nothing but read it.
    """
    import sqlite3
    from urllib.parse import quote

    readable = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
    readable.add(sqlite3.SQLITE_RECURSIVE)
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    try:
        query = query or _whole_table(db, path)
        db.set_authorizer(lambda action, *_: int(action not in readable))
        cursor = db.execute(query)
        names = [column[0] for column in cursor.description or ()]
        for number, cells in enumerate(cursor, start=1):
            yield number, dict(zip(names, cells, strict=True))
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise BadInput(
            f"{path.name} cannot be asked {query or 'for its tables'!r}: {error}.",
            mend=f"--query 'SELECT question, answer FROM …' ({path.name}: sqlite3 -readonly)",
        ) from error
    finally:
        db.close()


def _whole_table(db: Any, path: Path) -> str:
    found = db.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    tables = [row[0] for row in islice(found, 50)]
    if len(tables) == 1:
        return 'SELECT * FROM "{}"'.format(tables[0].replace('"', '""'))
    raise BadInput(
        f"{path.name} has {len(tables)} tables: {', '.join(tables) or 'none'}.",
        mend=f"--query 'SELECT question, answer FROM {tables[0] if tables else '…'}'",
    )


def folder_rows(path: Path) -> Rows:
    """The rows of a folder that `datasets` saved, from 1; a split's name is the rows' split."""
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except Exception as error:  # the library raises whatever its readers raise
        raise _unreadable(path, "datasets folder", error) from error
    parts = loaded if isinstance(loaded, DatasetDict) else {"": loaded}
    number = 0
    for split, part in parts.items():
        for row in part:
            number += 1
            yield number, {"split": split, **row} if split else row


def _unreadable(path: Path, what: str, error: Exception) -> BadInput:
    return BadInput(
        f"{path} is no {what} that can be read: {str(error).splitlines()[0][:200].rstrip('.')}.",
        mend=f"write {path} again, or give the rows as JSONL",
    )
