"""Cleaning a family's data: a new revision beside the old one, and every change with its reason.

Reads:  datasets, cleanings
Writes: cleanings

The revision itself is frozen by stages/dataset, as any other data is.
"""

import json
from collections.abc import Sequence

from ollama_ft.core.catalog import append, newest, row
from ollama_ft.core.files import freeze as store
from ollama_ft.core.home import Home
from ollama_ft.core.records import Cleaned, Dataset
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.cleaning import Change, Counts


def record(
    db: Database,
    home: Home,
    dataset: Dataset,
    parent: Dataset,
    changes: Sequence[Change],
    counts: Counts,
) -> Cleaned:
    """Note that `dataset` is `parent` cleaned; the row of the same cleaning if there is one."""
    content = "".join(f"{change.line}\n" for change in changes).encode()
    digest, _ = store(home.data("changes"), content, ".jsonl")
    found = newest(db, Cleaned, dataset=dataset.key, parent=parent.key, digest=digest)
    if found is not None:
        return found
    reasons = {name: getattr(counts, name) for name in ("dropped", "redacted", "repaired")}
    return append(
        db,
        Cleaned(
            family=dataset.family,
            dataset=dataset.key,
            parent=parent.key,
            came=counts.came,
            stayed=counts.stayed,
            digest=digest,
            counts_json=json.dumps(reasons, ensure_ascii=False, sort_keys=True),
        ),
    )


def newest_revision(db: Database, dataset: Dataset) -> Dataset:
    """What became of the dataset by cleaning; itself if it never was cleaned."""
    while (cleaned := newest(db, Cleaned, parent=dataset.key)) is not None:
        dataset = row(db, Dataset, cleaned.dataset)
    return dataset
