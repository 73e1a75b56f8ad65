"""Harvest: from the log to candidates, and what was chosen of them as a row.

Reads:  exchanges_view and messages of the log
Writes: harvests
"""

import json
from collections.abc import Collection, Iterator, Sequence
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
from ollama_ft.kinds.harvest.candidate import CORRECTED, UNRATED, Candidate, source_of
from ollama_ft.kinds.harvest.sift import Sifted

UNRATED_MOST = 20_000  # unrated exchanges that are looked at, the newest
_BATCH = 500  # rows that one statement asks for


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How many exchanges a family has in the log, and those of them that may teach something."""

    exchanges: int
    candidates: tuple[Candidate, ...]
    passed_over: int  # unrated ones behind the newest that are looked at


def read(
    log: Database,
    family: str,
    since: str = "",
    known: Collection[str] = (),
    most_unrated: int = UNRATED_MOST,
) -> Seen:
    """What was asked of a family, or rated, since an ISO time, and all whose uid is in `known`.

    What nobody rated and nothing was retrieved for is counted only: it is the model's own word. Of
    other unrated ones the newest `most_unrated` are looked at, so that a log of any size is read in
    bounded memory.
    """
    (count,) = log.execute("select count(*) from exchanges where family = ?", [family]).fetchone()
    rows = log.execute(
        """
        select id, uid, max(at, coalesce(rated_at, '')), rating is null from exchanges_view
        where family = ? and (rating is not null or context_json <> '[]') order by id desc
        """,
        [family],
    )
    chosen: list[int] = []
    unrated = passed_over = 0
    for key, uid, at, is_unrated in rows:
        if uid not in known:
            if at < since:
                continue
            if is_unrated and unrated == most_unrated:
                passed_over += 1
                continue
            unrated += is_unrated
        chosen.append(key)
    candidates = tuple(_candidate(log, row) for row in _rows(log, chosen[::-1]))
    return Seen(exchanges=count, candidates=candidates, passed_over=passed_over)


def _rows(log: Database, keys: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The rows of exchanges_view with these ids, in the order of the ids."""
    for start in range(0, len(keys), _BATCH):
        some = keys[start : start + _BATCH]
        marks = ", ".join("?" * len(some))
        yield from log.query(
            f"select * from exchanges_view where id in ({marks}) order by id", some
        )


def present(log: Database, uids: Collection[str]) -> set[str]:
    """Those of `uids` whose exchange is still in the log."""
    asked, found = sorted(uids), set()
    for start in range(0, len(asked), _BATCH):
        some = asked[start : start + _BATCH]
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
    answer = row["correction"] if row["rating"] == CORRECTED else row["answer"]
    messages = (*(_message(turn) for turn in turns), Message(role="assistant", content=answer))
    return Candidate(
        uid=row["uid"],
        at=row["rated_at"] or row["at"],
        client=row["client"],
        tier=row["rating"] or UNRATED,
        row=Conversation(messages=messages, source=source_of(row["uid"])),
        said=row["answer"] if row["status"] == COMPLETE else "",
        passages=passages,
        topic=passages[0] if passages else "",
        trouble=_trouble(row, turns),
    )


def _message(turn: Turn) -> Message:
    return Message(role=turn.role, content=turn.content)


def _trouble(row: dict[str, Any], turns: list[Turn]) -> str:
    if any(turn.extra or turn.role == "tool" for turn in turns):
        return "has tool calls or images"
    if row["rating"] == CORRECTED:  # then it is no matter how the model's own answer ended
        return ""
    if row["status"] != COMPLETE:
        return "broke off" if row["status"] == "incomplete" else "failed"
    return "cut off by its length" if row["done_reason"] == "length" else ""


def _passages(context: list[dict[str, Any]]) -> Iterator[str]:
    """Each passage that was retrieved, with the headings above it."""
    for passage in context:
        if isinstance(passage, dict) and isinstance(passage.get("text"), str):
            heading = str(passage.get("heading", ""))
            yield f"{heading}\n{passage['text']}".strip()
