"""What is worth a person's minute: the review queue.

In this order: answers that somebody thought bad and nobody corrected; then answers nobody has rated
yet, those to frequent questions first, unsure ones before sure ones, long before short. A question
that was asked often stands for all its repetitions: one minute mends them all.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ollama_ft.core.conversation import normalise
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.harvest.fitness import UNSURE

WINDOW = 5_000  # the newest exchanges that are looked at
_LONG = 1_500  # characters of an answer that a person should look at
_WEIGHT_BAD, _WEIGHT_OFTEN, _WEIGHT_UNSURE, _WEIGHT_LONG = 100.0, 10.0, 8.0, 3.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One exchange for a person to look at, and why."""

    row: dict[str, Any]  # of exchanges_view
    worth: float
    times: int  # how often the question was asked
    why: str


def queue(log: Database, family: str | None = None, most: int = 50) -> list[Case]:
    """The cases of a family (None: of all), the worthiest first. Broken answers are left out."""
    rows = _newest(log, family)
    times: dict[str, int] = {}
    for row in rows:
        key = _question(row)
        times[key] = times.get(key, 0) + 1
    settled = {_question(row) for row in rows if row["rating"] in ("up", "corrected")}
    cases: dict[str, Case] = {}
    for row in rows:
        key = _question(row)
        if row["rating"] in ("up", "corrected") or (row["rating"] is None and key in settled):
            continue
        case = _case(row, times[key])
        if key not in cases or case.worth > cases[key].worth:
            cases[key] = case
    return _ranked(cases.values())[:most]


def _ranked(cases: Iterable[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: (-case.worth, -case.row["id"]))


def _newest(log: Database, family: str | None) -> list[dict[str, Any]]:
    where = "status = 'complete'" + (" and family = :family" if family else "")
    sql = f"select * from exchanges_view where {where} order by id desc limit {WINDOW}"
    return list(log.query(sql, {"family": family} if family else {}))


def _question(row: dict[str, Any]) -> str:
    return normalise(row["question_text"])


def _case(row: dict[str, Any], times: int) -> Case:
    worth, why = 0.0, []
    if row["rating"] == "down":
        worth += _WEIGHT_BAD
        why.append(f"rated down by {row['rated_by'] or 'somebody'}")
    if times > 1:
        worth += _WEIGHT_OFTEN * math.log2(times)
        why.append(f"asked {times} times")
    if signs := _unsure(row):
        worth += _WEIGHT_UNSURE
        why.append(signs)
    if len(row["answer"]) > _LONG:
        worth += _WEIGHT_LONG
        why.append(f"long: {len(row['answer'])} characters")
    return Case(row=row, worth=worth, times=times, why=", ".join(why) or "not rated yet")


def _unsure(row: dict[str, Any]) -> str:
    if row["done_reason"] == "length":
        return "cut off by its length"
    if not row["answer"].strip():
        return "empty"
    return "sounds unsure" if UNSURE.search(row["answer"]) else ""
