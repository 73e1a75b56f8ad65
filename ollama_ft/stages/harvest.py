"""Harvest: from the log to candidates, and what was chosen of them as a row.

Reads:  exchanges_view and messages of the log
Writes: harvests
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ollama_ft.core.catalog import append, newest
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.exchange import COMPLETE, Turn
from ollama_ft.core.files import freeze
from ollama_ft.core.home import Home
from ollama_ft.core.logbook import conversation
from ollama_ft.core.loop_records import Harvest
from ollama_ft.core.records import Dataset
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.harvest.candidate import UNRATED, Candidate, source_of
from ollama_ft.kinds.harvest.sift import Sifted


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How many exchanges a family has in the log, and how many of them may teach something."""

    exchanges: int
    candidates: tuple[Candidate, ...]


def read(log: Database, family: str, since: str = "", known: Collection[str] = ()) -> Seen:
    """The exchanges of a family since an ISO time, and all whose uid is in `known`.

    What nobody rated and nothing was retrieved for is counted only: it is the model's own word.
    """
    where, values = "family = :family", {"family": family, "since": since}
    count = f"select count(*) from exchanges where {where} and at >= :since"
    telling = "(rating is not null or context_json <> '[]')"
    rows = log.query(
        f"select * from exchanges_view where {where} and {telling} order by id", {"family": family}
    )
    found = tuple(_candidate(log, row) for row in rows if row["at"] >= since or row["uid"] in known)
    return Seen(exchanges=log.execute(count, values).fetchone()[0], candidates=found)


def present(log: Database, uids: Collection[str]) -> set[str]:
    """Those of `uids` whose exchange is still in the log."""
    asked, found = sorted(uids), set()
    for start in range(0, len(asked), 500):
        some = asked[start : start + 500]
        marks = ", ".join("?" * len(some))
        rows = log.execute(f"select uid from exchanges where uid in ({marks})", some)
        found |= {row[0] for row in rows.fetchall()}
    return found


def record(
    db: Database, home: Home, dataset: Dataset, sifted: Sifted, counts: dict[str, object]
) -> Harvest:
    """Keep what was rated down or corrected as an artefact, and what was chosen as a row.

    The artefact, data/harvests/<digest>.jsonl, has one line for each answer that should not have
    been given, with the right one if there is one: what preference training learns from.
    """
    lines = (json.dumps(asdict(one), ensure_ascii=False) for one in sifted.negatives)
    content = "".join(f"{line}\n" for line in lines).encode()
    digest, _ = freeze(home.data("harvests"), content, ".jsonl")
    told = json.dumps(counts, ensure_ascii=False, sort_keys=True)
    values = {"family": dataset.family, "dataset": dataset.key, "digest": digest}
    if found := newest(db, Harvest, counts_json=told, **values):
        return found
    return append(
        db,
        Harvest(
            family=dataset.family,
            dataset=dataset.key,
            digest=digest,
            taken=len(sifted.kept),
            negatives=len(sifted.negatives),
            counts_json=told,
        ),
    )


def _candidate(log: Database, row: dict[str, Any]) -> Candidate:
    turns = conversation(log, row["prompt"])
    passages = tuple(_passages(json.loads(row["context_json"])))
    answer = row["correction"] if row["rating"] == "corrected" else row["answer"]
    messages = (*(_message(turn) for turn in turns), Message(role="assistant", content=answer))
    return Candidate(
        uid=row["uid"],
        at=row["rated_at"] or row["at"],
        client=row["client"],
        tier=row["rating"] or UNRATED,
        row=Conversation(messages=messages, source=source_of(row["uid"])),
        said=row["answer"],
        passages=passages,
        topic=passages[0] if passages else "",
        trouble=_trouble(row, turns),
    )


def _message(turn: Turn) -> Message:
    return Message(role=turn.role, content=turn.content)


def _trouble(row: dict[str, Any], turns: list[Turn]) -> str:
    if row["status"] != COMPLETE:
        return "broke off" if row["status"] == "incomplete" else "failed"
    if row["done_reason"] == "length" and row["rating"] != "corrected":
        return "cut off by its length"
    if any(turn.extra or turn.role == "tool" for turn in turns):
        return "has tool calls or images"
    return ""


def _passages(context: list[dict[str, Any]]) -> Iterator[str]:
    """Each passage that was retrieved, with the headings above it."""
    for passage in context:
        if isinstance(passage, dict) and isinstance(passage.get("text"), str):
            heading = str(passage.get("heading", ""))
            yield f"{heading}\n{passage['text']}".strip()
