"""What is done with data between two trainings: look at it, clean it, make more of it.

Beside loop.py: the same workshop, and stages that meet in rows.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ollama_ft.core.catalog import every, newest, row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import Count
from ollama_ft.core.home import Home
from ollama_ft.core.recipe import load_recipe
from ollama_ft.core.records import Base, Dataset, Family, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.cleaning import Counts, clean_lines
from ollama_ft.kinds.containers import Reading, parts, parts_of
from ollama_ft.kinds.formats import read_part
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
    tested = newest(db, Dataset, family=family.name)
    rows = [row for suite in suites.ever(db, home, family.name) for row in suite.questions]
    rows += [row for row in datasets.load(home, tested) if row.split == "test"] if tested else []
    return list({row.question_key: row for row in rows}.values())


def dataset_of(db: Database, family: Family) -> Dataset:
    """The family's newest data. Raises NotFound if it has none."""
    found = newest(db, Dataset, family=family.name)
    if found is None:
        raise NotFound(
            f"{family.name} has no data yet.",
            mend=f"ollama-ft train {family.name} --data faq.jsonl",
        )
    return found


def rows_of(db: Database, home: Home, family: Family) -> list[Conversation]:
    """The rows of the family's newest data."""
    return datasets.load(home, dataset_of(db, family))


def clean(
    db: Database, home: Home, family: Family, keep: Sequence[str], against: Against | None
) -> tuple[Counts, Dataset]:
    """Clean the family's newest data into a new revision; what the family learns next is that.

    Returns what was done, and the revision: the data itself if there was nothing to do.

    Raises NotEnoughData if too little stays to train on. The old revision is as it was.
    """
    old = dataset_of(db, family)
    lines, changes, counts = clean_lines(datasets.load(home, old), keep, against)
    if not changes:
        return counts, old
    rows = tuple(Conversation.from_json(json.loads(line)) for line in lines)
    sources = {f"cleaning of {old.digest.removeprefix('sha256:')[:12]}": len(rows)}
    revision = datasets.freeze(
        db, home, family.name, datasets.revise(rows, parent=old, sources=sources)
    )
    cleaning.record(db, home, revision, old, changes, counts)
    return counts, revision


def read(files: Sequence[Path], reading: Reading) -> list[Conversation]:
    """The rows of files, each in the split that freezing would give it."""
    read = [row for part in parts_of(files, reading) for _, row in read_part(part)]
    return list(datasets.build(read).rows)


def revise(
    db: Database, home: Home, family: Family, made: Sequence[Conversation], how: str
) -> Dataset:
    """Add rows made of the family's newest data to it, as a new revision; `how` names them."""
    old = dataset_of(db, family)
    rows = [*datasets.load(home, old), *made]
    frozen = datasets.revise(rows, parent=old, sources={how: len(made)})
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


def resolve(db: Database, home: Home, name: str) -> list[Conversation]:
    """The rows of a file, of a family's newest data (NAME), of the data before (NAME~1), or of a
    dataset by six digits of its digest.

    Raises NotFound for what is none of them.
    """
    path = Path(name)
    if path.exists():
        return [row for part in parts(path) for _, row in read_part(part)]
    family, _, back = name.partition("~")
    found = newest(db, Dataset, family=family)
    for _ in range(int(back) if back.isdigit() else 0):
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
