"""What is done with data between two trainings: look at it, clean it, make more of it.

Beside loop.py: the same workshop, and stages that meet in rows.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ollama_ft.core.catalog import every, newest, row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import Count
from ollama_ft.core.files import artefact
from ollama_ft.core.home import Home
from ollama_ft.core.recipe import load_recipe
from ollama_ft.core.records import Base, Dataset, Family, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds import llama_factory
from ollama_ft.kinds.cleaning import Counts, clean_lines
from ollama_ft.kinds.containers import (
    Part,
    Reading,
    find_container,
    parts,
    parts_of,
    raw_rows,
)
from ollama_ft.kinds.formats import OnBad, read_part
from ollama_ft.kinds.more_rows import paraphrased
from ollama_ft.kinds.report import Against
from ollama_ft.runtime.client import user_message
from ollama_ft.stages import base as bases
from ollama_ft.stages import check as checking
from ollama_ft.stages import clean as cleaning
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import publish as publishing
from ollama_ft.stages import suite as suites
from ollama_ft.workshop import Workshop

LEAST_DIGITS = 6  # of a digest, as everywhere


def against(shop: Workshop, family: Family, embed: str | None = None) -> Against:
    """What rows of this family are held against: its real template and what it is asked.

    `embed` names a model whose embeddings say which rows mean the same as a question.
    """
    v0 = newest(shop.db, Version, family=family.name, number=0)
    if v0 is None:
        raise NotFound(f"{family.name} was never finished.", mend="ollama-ft new")
    publishing.bring(shop.db, shop.home, shop.client, v0)
    base = row(shop.db, Base, family.base)
    name = bases.default_recipe(shop.home, base.name)
    return checking.against(
        shop.db,
        shop.home,
        family,
        questions(shop.db, shop.home, family),
        load_recipe(name, shop.home.texts("recipes"), {}).max_length,
        render=lambda messages: shop.client.render(v0.tag, messages),
        embed=None if embed is None else lambda texts: shop.client.embed(embed, texts),
    )


def questions(db: Database, home: Home, family: Family) -> Sequence[Conversation]:
    """What the family is or was ever asked in a suite or a test, and must never learn."""
    tested = datasets.newest_here(db, home, family.name)
    rows = [row for suite in suites.ever(db, home, family.name) for row in suite.questions]
    rows += [row for row in datasets.load(home, tested) if row.split == "test"] if tested else []
    return list({row.question_key: row for row in rows}.values())


def dataset_of(db: Database, home: Home, family: Family) -> Dataset:
    """The family's newest data whose rows are here. Raises NotFound if it has none."""
    found = datasets.newest_here(db, home, family.name)
    if found is None:
        raise NotFound(
            f"{family.name} has no data yet.",
            mend=f"ollama-ft train {family.name} --data faq.jsonl",
        )
    return found


def rows_of(db: Database, home: Home, family: Family) -> list[Conversation]:
    """The rows of the family's newest data."""
    return datasets.load(home, dataset_of(db, home, family))


def clean(
    db: Database, home: Home, family: Family, keep: Sequence[str], against: Against | None
) -> tuple[Counts, Dataset, Path | None]:
    """Clean the family's newest data into a new revision; what the family learns next is that.

    Returns what was done, the revision, and the file with every change; if there was nothing to do
    the data itself, and no file.

    Raises NotEnoughData if too little stays to train on. The old revision is as it was.
    """
    old = dataset_of(db, home, family)
    lines, changes, counts = clean_lines(datasets.load(home, old), keep, against)
    if not changes:
        return counts, old, None
    rows = tuple(Conversation.from_json(json.loads(line)) for line in lines)
    sources = {f"cleaning of {old.digest.removeprefix('sha256:')[:12]}": len(rows)}
    revision = datasets.freeze(
        db, home, family.name, datasets.revise(rows, parent=old, sources=sources)
    )
    done = cleaning.record(db, home, revision, old, changes, counts)
    return counts, revision, artefact(home.data("changes"), done.digest, ".jsonl")


def read(files: Sequence[Path], reading: Reading) -> list[Conversation]:
    """The rows of files, each in the split that freezing would give it."""
    read = [row for part in parts_of(files, reading) for _, row in read_part(part)]
    return list(datasets.build(read).rows)


def grown(rows: Sequence[Conversation], made: Sequence[Conversation]) -> tuple[Conversation, ...]:
    """The rows and what was made of them, without what is there already or gives a question away
    that is only asked."""
    return datasets.build([*rows, *made]).rows


def revise(
    db: Database,
    home: Home,
    family: Family,
    rows: Sequence[Conversation],
    sources: Mapping[str, int],
) -> Dataset:
    """Make these rows the family's newest data, as a revision of what it has."""
    frozen = datasets.revise(rows, parent=dataset_of(db, home, family), sources=sources)
    return datasets.freeze(db, home, family.name, frozen)


def paraphrase(
    shop: Workshop, rows: Sequence[Conversation], count: int, model: str
) -> tuple[list[Conversation], int]:
    """Other ways to ask what the train rows ask, by a model at the runtime; and how many of its
    were not fit."""
    made: list[Conversation] = []
    refused = 0
    options = {"temperature": 0.8, "num_predict": 60 * count, "seed": 0}

    def ask(prompt: str) -> str:
        return shop.client.chat(model, user_message(prompt), options=options, think=False).text

    total = sum(row.split == "train" for row in rows)
    for done, (fit, unfit) in enumerate(paraphrased(rows, count, ask), start=1):
        made += fit
        refused += unfit
        shop.emit(Count(name="paraphrase", done=done, total=total, unit="questions"))
    return made, refused


def resolve(
    db: Database,
    home: Home,
    name: str,
    reading: Reading | None = None,
    on_bad: OnBad | None = None,
) -> list[Conversation]:
    """The rows of a file, of a family's newest data (NAME), of the data before (NAME~1), or of a
    dataset by six digits of its digest.

    `reading` is minded as far as the file needs it: what `data clean` wrote has our own keys.

    Raises NotFound for what is none of them.
    """
    path = Path(name)
    if path.exists() or path.name.startswith(f"{llama_factory.FILE}#"):
        read = (_as_needed(part) for part in parts(path, reading))
        return [row for part in read for _, row in read_part(part, on_bad)]
    family, _, back = name.partition("~")
    found = newest(db, Dataset, family=family) if re.fullmatch("[0-9]{0,6}", back) else None
    for _ in range(int(back or 0) if found else 0):
        found = row(db, Dataset, found.parent) if found and found.parent else None
    digits = name.removeprefix("sha256:")
    if found is None and len(digits) >= LEAST_DIGITS:
        begins = [d for d in every(db, Dataset) if d.digest[7:].startswith(digits)]
        found = begins[0] if len({d.digest for d in begins}) == 1 else None
    if found is None:
        raise NotFound(
            f"There is no file, family or dataset {name!r}.",
            mend="ollama-ft data diff faq.jsonl support",
        )
    return datasets.load(home, found)


def _as_needed(part: Part) -> Part:
    if find_container(part.path).name != "sqlite":
        part = replace(part, query=None)
    if part.reshape is None and (part.format or part.columns):
        _, first = next(raw_rows(replace(part, columns={})), (0, None))
        theirs = {name.partition(".")[0] for name in part.columns.values()}
        if isinstance(first, dict) and "messages" in first and theirs.isdisjoint(first):
            return replace(part, format=None, columns={})
    return part
