"""Freezing a dataset: rows of files become a content-addressed list of conversations with a split.

Reads:  datasets
Writes: datasets

A family's data grows: each freezing starts from an earlier dataset of the family. A row stays in
the split where it is when others come; a new one joins the split of the questions that it is
nearly the same as (kinds/splits).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ollama_ft.core.catalog import append, every, newest
from ollama_ft.core.catalog import row as row_of
from ollama_ft.core.conversation import SPLITS, Conversation
from ollama_ft.core.errors import Conflict, NotEnoughData, NotFound
from ollama_ft.core.files import artefact, digest_bytes
from ollama_ft.core.files import freeze as store
from ollama_ft.core.home import Home
from ollama_ft.core.records import Dataset, Run
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.containers import Part, Reading, parts_of
from ollama_ft.kinds.formats import read_part
from ollama_ft.kinds.more_rows import is_made
from ollama_ft.kinds.scan import joined
from ollama_ft.kinds.splits import Placing, group_rows, key_of, place
from ollama_ft.kinds.suites import Banned

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
    reading: Reading | None = None,
    db: Database | None = None,
    banned: Banned | None = None,
) -> Frozen:
    """Join the rows of `files` to those of `onto` (None: begin anew). Nothing is written.

    With `db`, a row that is near to two earlier ones in different splits joins the older one's.
    A row that is `banned`, since a suite asks it, is left out unless it is a test row.

    Raises BadInput for the first row that is not fit; NotEnoughData below LEAST rows to train on.
    """
    read = parts_of(files, reading)
    counts: dict[str, int] = {}
    fresh = [row for part in read for row in _read(part, counts)]
    ages = None if db is None or onto is None else lambda: _ages(db, home, onto)
    frozen = without(build(fresh, load(home, onto) if onto else (), ages), banned or Banned())
    _check_enough(frozen)
    return replace(frozen, sources=counts, parent=onto.id if onto else None)


def _ages(db: Database, home: Home, dataset: Dataset) -> dict[bytes, int]:
    """Question key → the id of the first dataset, of those before `dataset`, that has it."""
    ages: dict[bytes, int] = {}
    step: Dataset | None = dataset
    while step is not None and is_here(home, step):
        ages |= {known.question_key: step.key for known in load(home, step)}  # the older wins
        step = row_of(db, Dataset, step.parent) if step.parent else None
    return ages


def freeze(db: Database, home: Home, family: str, frozen: Frozen) -> Dataset:
    """Store what was gathered; return its row, an earlier one if the family has the same rows."""
    # An imported version's dataset has a row without its rows: they may be coming now.
    store(home.data("datasets"), frozen.content, ".jsonl")
    if found := newest(db, Dataset, family=family, digest=frozen.digest):
        return found
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


def told(dataset: Dataset, *, held_back: bool) -> str:
    """The dataset in one line; `held_back`: its validation rows are not learned from."""
    held = dataset.validation if held_back else 0
    parts = [f"{dataset.rows - dataset.test - held} to learn from"]
    parts += [f"{held} to stop by"] if held else []
    parts += [f"{dataset.test} only to ask afterwards"]
    dropped = f"; {dataset.duplicates} duplicates dropped" if dataset.duplicates else ""
    if dataset.banned:
        dropped += f"; {dataset.banned} left out: a suite asks them"
    return f"{dataset.rows} rows: {', '.join(parts)}{dropped}"


def newest_here(db: Database, home: Home, family: str) -> Dataset | None:
    """The family's newest dataset that has rows, and has them here.

    A version that was imported brings only its dataset's digest and counts.
    """
    return next((d for d in every(db, Dataset, family=family) if d.rows and is_here(home, d)), None)


def is_here(home: Home, dataset: Dataset) -> bool:
    """Whether the rows are in this home, not only what is known of them."""
    return artefact(home.data("datasets"), dataset.digest, ".jsonl").is_file()


def revise(rows: Iterable[Conversation], *, parent: Dataset, sources: Mapping[str, int]) -> Frozen:
    """The rows of `parent` as they were changed, each in the split that it names.

    Raises NotEnoughData below LEAST rows to train on.
    """
    frozen = replace(build(rows), sources=sources, parent=parent.id)
    _check_enough(frozen)
    return frozen


def learned(db: Database, home: Home, run: Run) -> frozenset[str]:
    """Digests of the rows that a run was given to learn. Raises what `load` raises."""
    rows = load(home, row_of(db, Dataset, run.dataset))
    return frozenset(row.digest for row in rows if row.split != "test")


def load(home: Home, dataset: Dataset) -> list[Conversation]:
    """The rows of a frozen dataset.

    Raises NotFound if its file is gone, Conflict if it was changed.
    """
    path = artefact(home.data("datasets"), dataset.digest, ".jsonl")
    mend = "ollama-ft doctor, or freeze the data anew: ollama-ft train --anew --data …"
    if not path.is_file():
        raise NotFound(
            f"The rows of dataset {dataset.digest[7:19]} are not here: {path} is gone, or the "
            "version was imported, and its data stayed where it was made.",
            mend=mend,
        )
    content = path.read_bytes()
    if digest_bytes(content) != dataset.digest:
        raise Conflict(f"{path} was changed after it was frozen.", mend=mend)
    return [Conversation.from_json(json.loads(line)) for line in content.split(b"\n") if line]


def build(
    rows: Iterable[Conversation],
    previous: Iterable[Conversation] = (),
    ages: Callable[[], Mapping[bytes, int]] | None = None,
) -> Frozen:
    """Join new rows to earlier ones; pure.

    Two rows that ask the same in the same context are one row: a duplicate if they answer the
    same, else a conflict, and the newer answer stands. A split that a row names wins; a row that
    was in already keeps its own; else splits.place decides. Accepted texts likewise. A row made of
    another (kinds/more_rows) is only learned from, and left out where what it is near to is not.
    `ages` is asked for only where near rows were placed apart.
    """
    kept: dict[bytes, Conversation] = {row.prompt_key: row for row in previous}
    settled = set(kept)
    duplicates = conflicts = 0
    for row in rows:
        earlier = kept.get(row.prompt_key)
        if earlier is None:
            kept[row.prompt_key] = row
        else:
            same = earlier.answer_key == row.answer_key
            duplicates += same
            conflicts += not same
            kept[row.prompt_key] = joined(earlier, row)
    placed = _place(list(kept.values()), settled, ages)
    return Frozen(
        rows=tuple(sorted(placed, key=lambda row: (row.question_key, row.line))),
        duplicates=duplicates,
        conflicts=conflicts,
    )


def without(frozen: Frozen, banned: Banned) -> Frozen:
    """The dataset without the rows that would teach what a suite asks; pure."""
    asked = banned.among(frozen.rows)
    rows = zip(frozen.rows, asked, strict=True)
    kept = tuple(row for row, is_asked in rows if row.split == "test" or not is_asked)
    return replace(frozen, rows=kept, banned=frozen.banned + len(frozen.rows) - len(kept))


def _place(
    rows: list[Conversation],
    settled: set[bytes],
    ages: Callable[[], Mapping[bytes, int]] | None,
) -> list[Conversation]:
    known: dict[bytes, int] = {}

    def age(index: int) -> int:
        if ages and not known:
            known.update(ages())
        return known.get(rows[index].question_key, 0)

    # A row made of another follows it, and never says where the others go.
    placings = [
        Placing(
            key=key_of(row),
            named=None if is_made(row) and row.prompt_key not in settled else row.split,
            settled=row.prompt_key in settled,
        )
        for row in rows
    ]
    # Where every row names its split there is nothing to find out.
    undecided = any(placing.named is None for placing in placings)
    first = group_rows(rows).first if undecided else range(len(rows))
    splits = place(placings, first, age)
    written = {first[index] for index, row in enumerate(rows) if not is_made(row)}
    return [
        replace(row, split="train" if is_made(row) else split)
        for row, split, head in zip(rows, splits, first, strict=True)
        if split == "train" or not is_made(row) or head not in written
    ]


def _read(part: Part, counts: dict[str, int]) -> Iterable[Conversation]:
    counts.setdefault(part.called, 0)
    for _, row in read_part(part):
        counts[part.called] += 1
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
