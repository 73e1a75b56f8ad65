"""Kinds of files that hold rows, and the parts that a given path stands for.

A container is two plain functions behind a name: `matches` says by name and first bytes whether a
file is one, `rows` yields its rows as they stand. What the rows mean, kinds/formats says.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.plugins import Register, collect, hookimpl
from ollama_ft.kinds.encodings import open_text
from ollama_ft.kinds.json_rows import json_rows
from ollama_ft.kinds.llama_factory import Reshape, entries, is_dataset_info
from ollama_ft.kinds.table_rows import arrow_rows, csv_rows, folder_rows, parquet_rows, sqlite_rows
from ollama_ft.kinds.xml_rows import xml_rows

Raw = Iterator[tuple[int, object]]

HEAD = 16  # bytes that `matches` is shown


@dataclass(frozen=True, kw_only=True)
class Container:
    """One kind of file. `rows` is given the path and the query (None but for databases)."""

    name: str
    matches: Callable[[Path, bytes], bool]
    rows: Callable[[Path, str | None], Raw]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the user says of how files are to be read."""

    format: str | None = None  # a name in kinds/formats; None: found out
    columns: Mapping[str, str] = field(default_factory=dict)  # our key → the file's
    query: str | None = None  # for a database


@dataclass(frozen=True, kw_only=True)
class Part(Reading):
    """One file and how to read it. A `dataset_info.json` stands for several."""

    path: Path
    reshape: Reshape | None = None  # what makes a row of another kind one of `format`
    name: str = ""  # what it is called; else by its file's name

    @property
    def called(self) -> str:
        """What messages and reports call the file."""
        return self.name or self.path.name


def parts(path: Path, reading: Reading | None = None) -> list[Part]:
    """The files that `path` stands for: itself, or those that a dataset_info.json names.

    Raises NotFound and BadInput as llama_factory.entries does; NotFound for a file that is not
    there.
    """
    if is_dataset_info(path):
        found = [
            Part(path=entry.path, format=entry.format, reshape=entry.reshape)
            for entry in entries(path)
        ]
    else:
        how = reading or Reading()
        found = [Part(path=path, format=how.format, columns=how.columns, query=how.query)]
    for part in found:
        _check_readable(part.path)
    return found


def _check_readable(path: Path) -> None:
    if not path.exists():
        raise NotFound(f"{path} does not exist.", mend="give a file with questions and answers")
    if not (path.is_file() or path.is_dir()):
        # It is read more than once: to find out what it is, then row by row.
        raise BadInput(f"{path} is a pipe or a device.", mend="write it to a file first")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path} may not be read by you.", mend=f"chmod u+r {path}")


def parts_of(paths: Iterable[Path], reading: Reading | None = None) -> list[Part]:
    """The files that all of `paths` stand for; two of one name are called by their paths."""
    found = [part for path in paths for part in parts(path, reading)]
    often = Counter(part.path.name for part in found)
    return [
        replace(part, name=str(part.path)) if often[part.path.name] > 1 else part for part in found
    ]


def raw_rows(part: Part) -> Raw:
    """Yield (row number, row) as the file has them, with the part's columns under our names.

    Raises NotFound if there is no such file, BadInput as the container does.
    """
    container = find_container(part.path)
    if part.query and container.name != "sqlite":
        raise BadInput(
            f"{part.path.name} is no SQLite file, so it cannot be queried.",
            mend="leave out --query",
        )
    rows = container.rows(part.path, part.query)
    if part.reshape is None and not part.columns:
        return rows
    reshape = part.reshape or _renaming(part.columns)
    return ((n, reshape(row) if isinstance(row, dict) else row) for n, row in rows)


def find_container(path: Path) -> Container:
    """The container that a file is, by its first bytes and name."""
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD)
    elif not path.is_dir():
        raise NotFound(f"{path} does not exist.", mend="give a file with questions and answers")
    kinds: list[Container] = [loaded.thing for loaded in collect("containers").values()]
    return next(kind for kind in reversed(kinds) if kind.matches(path, head))


def parse_columns(texts: tuple[str, ...]) -> dict[str, str]:
    """`--map question=Frage,answer=Antwort` as {our key: the file's}.

    Raises BadInput for a piece without "=" or a key that no format knows.
    """
    pieces = [piece for text in texts for piece in text.split(",") if piece.strip()]
    columns = {}
    for piece in pieces:
        ours, equals, theirs = (part.strip() for part in piece.partition("="))
        if not (equals and theirs and ours in OURS):
            raise BadInput(
                f"{piece.strip()!r} maps no column to one of {', '.join(OURS)}.",
                mend="--map question=Frage,answer=Antwort",
            )
        columns[ours] = theirs
    return columns


OURS = (
    *("question", "answer", "instruction", "input", "output", "system", "history"),
    *("prompt", "completion", "messages", "conversations", "split", "accept", "must_not_say"),
    *("cluster", "passages", "tags", "source"),
)


def _renaming(columns: Mapping[str, str]) -> Reshape:
    def rename(row: Mapping[str, object]) -> dict[str, object]:
        kept = {k: v for k, v in row.items() if k not in columns and k not in columns.values()}
        found = {ours: _at(row, theirs) for ours, theirs in columns.items()}
        return kept | {ours: value for ours, value in found.items() if value is not _ABSENT}

    return rename


_ABSENT = object()


def _at(row: Mapping[str, object], name: str) -> object:
    """The value under a key, or under "reply.text" in nested objects."""
    if name in row:
        return row[name]
    value: object = row
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _begins_xml(path: Path, head: bytes) -> bool:
    if not path.is_file():
        return False
    with open_text(path) as file:
        return bool(file.peek(64).lstrip()[:1] == b"<")  # type: ignore[attr-defined]


# The last one that matches wins: what is certain by its first bytes stands at the end.
CONTAINERS = (
    Container(name="json", matches=lambda path, head: True, rows=lambda p, _: json_rows(p)),
    Container(name="xml", matches=_begins_xml, rows=lambda p, _: xml_rows(p)),
    Container(
        name="csv",
        matches=lambda path, head: path.suffix.lower() == ".csv",
        rows=lambda p, _: csv_rows(p),
    ),
    Container(
        name="tsv",
        matches=lambda path, head: path.suffix.lower() in (".tsv", ".tab"),
        rows=lambda p, _: csv_rows(p, "\t"),
    ),
    Container(
        name="parquet",
        matches=lambda path, head: head.startswith(b"PAR1"),
        rows=lambda p, _: parquet_rows(p),
    ),
    Container(
        name="arrow",
        matches=lambda path, head: head.startswith((b"ARROW1", b"\xff\xff\xff\xff")),
        rows=lambda p, _: arrow_rows(p),
    ),
    Container(
        name="sqlite",
        matches=lambda path, head: head == b"SQLite format 3\x00",
        rows=sqlite_rows,
    ),
    Container(
        name="folder",
        matches=lambda path, head: path.is_dir(),
        rows=lambda p, _: folder_rows(p),
    ),
)


@hookimpl
def register_containers(register: Register) -> None:
    """Bring in the containers above."""
    for kind in CONTAINERS:
        register(kind.name, kind)
