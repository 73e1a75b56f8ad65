"""Forgetting: exchanges are deleted, and the versions that learned from them are marked.

Reads:  exchanges of the log, versions, datasets
Writes: forgotten

The marks come first, the deletion last: a crash in between leaves marks, and the same command
again deletes the rest. Then their words go out of the log's file, too. What a model has learned is
only gone when a version without it is live.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_ft.core.catalog import append_all, every
from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.logbook import find_exchange, remove
from ollama_ft.core.logsearch import Wish, search
from ollama_ft.core.loop_records import Forgotten
from ollama_ft.core.records import Version
from ollama_ft.core.sqlite import Database


@dataclass(frozen=True, kw_only=True)
class Found:
    """One exchange that is to be forgotten."""

    id: int
    uid: str
    family: str
    question: str


def find(log: Database, refs: Sequence[str], client: str, match: str) -> list[Found]:
    """The exchanges that are named, that a client asked, or in which all words of `match` are.

    Several wishes together mean all that any of them finds. Raises NotFound if nothing is found,
    BadInput if nothing is wished for.
    """
    if not (refs or client or match):
        raise BadInput(
            "Say what to forget.", mend="ollama-ft forget 1234, --client NAME or --match WORDS"
        )
    rows = [_row(log, find_exchange(log, ref).key) for ref in refs]
    if client:
        rows += search(log, Wish(client=client, most=None))
    if match:
        rows += search(log, Wish(words=match, most=None))
    if not rows:
        raise NotFound("No exchange in the log is like that.", mend="ollama-ft logs")
    found = {
        row["id"]: Found(
            id=row["id"], uid=row["uid"], family=row["family"], question=row["question_text"]
        )
        for row in rows
    }
    return [found[key] for key in sorted(found)]


def learned(
    db: Database, found: Iterable[Found], sources: Mapping[int, frozenset[str]]
) -> dict[int, list[Version]]:
    """The versions that learned from each exchange, by the exchange's id; the oldest first.

    `sources` has the uids of the exchanges in each dataset, by the dataset's id.
    """
    versions = sorted(every(db, Version), key=lambda version: version.key)
    return {
        one.id: [v for v in versions if v.dataset and one.uid in sources.get(v.dataset, ())]
        for one in found
    }


def carry_out(
    db: Database, log: Database, found: Sequence[Found], taught: Mapping[int, Sequence[Version]]
) -> int:
    """Mark the versions, then delete the exchanges; return how many were deleted."""
    marked = {(row.exchange, row.version) for row in every(db, Forgotten)}
    rows = []
    for one in found:
        versions: list[int | None] = [version.key for version in taught[one.id]]
        rows += [
            Forgotten(exchange=one.uid, family=one.family, version=version)
            for version in versions or [None]
            if (one.uid, version) not in marked
        ]
    append_all(db, rows)
    return remove(log, [one.id for one in found])


def marks(db: Database, version: Version) -> int:
    """How many exchanges a version learned from that were forgotten since."""
    return len({row.exchange for row in every(db, Forgotten, version=version.key)})


def _row(log: Database, key: int) -> dict[str, Any]:
    return next(iter(log.query("select * from exchanges_view where id = ?", [key])))
