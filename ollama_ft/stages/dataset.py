"""Freezing a dataset: rows of files become a content-addressed list of conversations with a split.

Reads:  datasets
Writes: datasets

A family's data grows: each freezing starts from an earlier dataset of the family. A row stays in
the split where it is when others come, since the split hangs on the row's own question alone.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ollama_ft.core.catalog import append, newest
from ollama_ft.core.conversation import SPLITS, Conversation
from ollama_ft.core.errors import Conflict, NotEnoughData, NotFound
from ollama_ft.core.files import artefact, digest_bytes
from ollama_ft.core.files import freeze as store
from ollama_ft.core.home import Home
from ollama_ft.core.records import Dataset
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.splits import choose_split

LEAST = 8  # rows to train on; fewer than one batch teach nothing


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Conversations in canonical order, each with its split, and what was left out."""

    rows: tuple[Conversation, ...]
    duplicates: int = 0
    conflicts: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)  # file → rows read
    parent: int | None = None  # the dataset that these rows were added to
    banned: int = 0  # rows left out because a suite asks them

    @property
    def content(self) -> bytes:
        """The artefact: one canonical JSON line for each row."""
        return "".join(f"{row.line}\n" for row in self.rows).encode()

    @property
    def digest(self) -> str:
        """Names the dataset by its content."""
        return digest_bytes(self.content)

    def count(self, split: str) -> int:
        """How many rows are in one split."""
        return sum(row.split == split for row in self.rows)


def gather(
    home: Home,
    files: Sequence[Path],
    *,
    onto: Dataset | None,
    format: str | None = None,
    banned: Container[Conversation] = (),
) -> Frozen:
    """Join the rows of `files` to those of `onto` (None: begin anew). Nothing is written.

    A row that is `banned`, since a suite asks it, is left out unless it is a test row.

    Raises BadInput for the first row that is not fit; NotEnoughData below LEAST rows to train on.
    """
    counts: dict[str, int] = {}
    fresh = [row for path in files for row in _read(path, format, counts)]
    frozen = without(build(fresh, load(home, onto) if onto else ()), banned)
    _check_enough(frozen)
    return replace(frozen, sources=counts, parent=onto.id if onto else None)


def freeze(db: Database, home: Home, family: str, frozen: Frozen) -> Dataset:
    """Store what was gathered; return its row, an earlier one if the family has the same rows."""
    if found := newest(db, Dataset, family=family, digest=frozen.digest):
        return found
    store(home.data("datasets"), frozen.content, ".jsonl")
    return append(
        db,
        Dataset(
            family=family,
            digest=frozen.digest,
            parent=frozen.parent,
            rows=len(frozen.rows),
            train=frozen.count("train"),
            validation=frozen.count("validation"),
            test=frozen.count("test"),
            duplicates=frozen.duplicates,
            conflicts=frozen.conflicts,
            sources_json=json.dumps(frozen.sources, ensure_ascii=False, sort_keys=True),
            banned=frozen.banned,
        ),
    )


def load(home: Home, dataset: Dataset) -> list[Conversation]:
    """The rows of a frozen dataset.

    Raises NotFound if its file is gone, Conflict if it was changed.
    """
    path = artefact(home.data("datasets"), dataset.digest, ".jsonl")
    mend = "ollama-ft doctor, or freeze the data anew: ollama-ft train --data …"
    if not path.is_file():
        raise NotFound(f"The file of dataset {dataset.digest[7:19]} is gone: {path}.", mend=mend)
    content = path.read_bytes()
    if digest_bytes(content) != dataset.digest:
        raise Conflict(f"{path} was changed after it was frozen.", mend=mend)
    return [Conversation.from_json(json.loads(line)) for line in content.split(b"\n") if line]


def build(rows: Iterable[Conversation], previous: Iterable[Conversation] = ()) -> Frozen:
    """Join new rows to earlier ones; pure.

    Two rows that ask the same in the same context are one row: a duplicate if they answer the
    same, else a conflict, and the newer answer stands. A split that a row names wins; a row that
    was in already keeps its own; else the question's hash decides. Accepted texts likewise.
    """
    kept: dict[bytes, Conversation] = {row.prompt_key: row for row in previous}
    duplicates = conflicts = 0
    for row in rows:
        earlier = kept.get(row.prompt_key)
        if earlier is None:
            kept[row.prompt_key] = row
        elif earlier.answer_key == row.answer_key:
            duplicates += 1
            kept[row.prompt_key] = replace(
                earlier, split=row.split or earlier.split, accept=row.accept or earlier.accept
            )
        else:
            conflicts += 1
            kept[row.prompt_key] = replace(row, split=row.split or earlier.split)
    split = [replace(row, split=choose_split(row)) for row in kept.values()]
    return Frozen(
        rows=tuple(sorted(split, key=lambda row: (row.question_key, row.line))),
        duplicates=duplicates,
        conflicts=conflicts,
    )


def without(frozen: Frozen, banned: Container[Conversation]) -> Frozen:
    """The dataset without the rows that would teach what a suite asks; pure."""
    kept = tuple(row for row in frozen.rows if row.split == "test" or row not in banned)
    return replace(frozen, rows=kept, banned=frozen.banned + len(frozen.rows) - len(kept))


def _read(path: Path, format: str | None, counts: dict[str, int]) -> Iterable[Conversation]:
    # Two files of one name are told apart by their folders only when they must be.
    name = path.name if path.name not in counts else str(path)
    counts[name] = 0
    for _, row in read_rows(path, format):
        counts[name] += 1
        yield row


def _check_enough(frozen: Frozen) -> None:
    train = frozen.count("train")
    if train < LEAST:
        others = ", ".join(f"{frozen.count(name)} {name}" for name in SPLITS[1:])
        raise NotEnoughData(
            f"{len(frozen.rows)} rows leave {train} to train on ({others}); {LEAST} are the least, "
            f"{LEAST - train} are missing.",
            mend='add more rows, or give rows "split": "train"',
        )
