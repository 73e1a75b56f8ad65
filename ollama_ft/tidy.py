"""What is done with data between two trainings: look at it, clean it, make more of it.

Beside loop.py: the same workshop, and stages that meet in rows.
"""

import json
from collections.abc import Sequence

from ollama_ft.core.catalog import newest, row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import NotFound
from ollama_ft.core.recipe import load_recipe
from ollama_ft.core.records import Base, Dataset, Family, Version
from ollama_ft.kinds.cleaning import Counts, clean_lines
from ollama_ft.kinds.report import Against
from ollama_ft.loop import Workshop
from ollama_ft.stages import base as bases
from ollama_ft.stages import check as checking
from ollama_ft.stages import clean as cleaning
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import publish as publishing


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
        questions(shop, family),
        load_recipe(name, shop.home.texts("recipes"), {}).max_length,
        render=lambda messages: shop.client.render(v0.tag, messages),
        embed=None if embed is None else lambda texts: shop.client.embed(embed, texts),
    )


def questions(shop: Workshop, family: Family) -> Sequence[Conversation]:
    """What the family is asked, and must never learn."""
    return [found for found in rows_of(shop, family) if found.split == "test"]


def dataset_of(shop: Workshop, family: Family) -> Dataset:
    """The family's newest data. Raises NotFound if it has none."""
    found = newest(shop.db, Dataset, family=family.name)
    if found is None:
        raise NotFound(
            f"{family.name} has no data yet.",
            mend=f"ollama-ft train {family.name} --data faq.jsonl",
        )
    return found


def rows_of(shop: Workshop, family: Family) -> list[Conversation]:
    """The rows of the family's newest data."""
    return datasets.load(shop.home, dataset_of(shop, family))


def clean(
    shop: Workshop, family: Family, keep: Sequence[str], against: Against | None
) -> tuple[Counts, Dataset]:
    """Clean the family's newest data into a new revision; what the family learns next is that.

    Returns what was done, and the revision: the data itself if nothing was.

    Raises NotEnoughData if too little stays to train on. The old revision is as it was.
    """
    old = dataset_of(shop, family)
    lines, changes, counts = clean_lines(datasets.load(shop.home, old), keep, against)
    if not changes:
        return counts, old
    rows = tuple(Conversation.from_json(json.loads(line)) for line in lines)
    sources = {f"cleaning of {old.digest.removeprefix('sha256:')[:12]}": len(rows)}
    revision = datasets.freeze(
        shop.db, shop.home, family.name, datasets.revise(rows, parent=old, sources=sources)
    )
    cleaning.record(shop.db, shop.home, revision, old, changes, counts)
    return counts, revision
