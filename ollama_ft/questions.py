"""Suites from the log: questions whose right answer a person has vouched for, never learned yet.

Chosen by the rules that `retrain` chooses by; they are out of its reach from then on. A question
names its exchange, so that `forget` can take it back (`stages.suite.withdraw`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ollama_ft import tidy
from ollama_ft.core.catalog import every
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import BadInput, NotEnoughData
from ollama_ft.core.logbook import find_exchange
from ollama_ft.core.logsearch import moment
from ollama_ft.core.plugins import collect
from ollama_ft.core.records import Dataset, Family
from ollama_ft.kinds.harvest.candidate import CORRECTED, UP, Candidate, Settings
from ollama_ft.kinds.harvest.sift import sift
from ollama_ft.kinds.suites import Banned
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import harvest as harvesting

if TYPE_CHECKING:
    from ollama_ft.core.home import Home
    from ollama_ft.core.sqlite import Database

LEARNED = "learned already"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which exchanges are meant: those named, else all since a time, the newest `most`."""

    exchanges: Sequence[str] = ()  # as in `logs show`
    since: str = ""
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Questions for a suite, the newest first, and what was left out why."""

    rows: tuple[Conversation, ...]
    left: dict[str, int]  # the rule's name → how many


def choose(db: "Database", home: "Home", log: "Database", family: Family, wish: Wish) -> Chosen:
    """The questions of exchanges that were corrected or liked, with the answer that is right.

    A question that a version was taught, or nearly that one, is left out: asking it would measure
    memory. So is what another suite asks.

    Raises NotEnoughData if none is left, BadInput for an exchange that nobody called right, one of
    another family, and for what is no time; NotFound for an exchange that is not there.
    """
    named = _named(log, family, wish.exchanges)
    since = moment(wish.since) if wish.since else ""
    seen = harvesting.read(log, family.name, since, known=named, most_unrated=0)
    vouched = [one for one in seen.candidates if not named or one.uid in named]
    _see_that_all_are_vouched_for(named, vouched)
    rules = {name: loaded.thing for name, loaded in collect("harvest_rules").items()}
    sifted = sift(vouched, rules, Settings(asked=tidy.questions(db, home, family)))
    left = {step.rule: step.came - step.stayed for step in sifted.steps if step.came > step.stayed}
    kept = sorted(sifted.kept, key=lambda one: (one.at, one.uid), reverse=True)
    taught = _taught(db, home, family).among([one.row for one in kept])
    rows = [one.row for one, known in zip(kept, taught, strict=True) if not known]
    if any(taught):
        left[LEARNED] = sum(taught)
    if not rows:
        why = "; ".join(f"{rule}: {count}" for rule, count in left.items())
        raise NotEnoughData(
            f"No exchange of {family.name} gives a question: {why or 'nobody rated any'}.",
            mend=f"ollama-ft review {family.name}",
        )
    return Chosen(rows=tuple(rows[: wish.most]), left=left)


def _named(log: "Database", family: Family, refs: Sequence[str]) -> dict[str, str]:
    """The uids of the exchanges that are named, each with the name that was given."""
    found = {}
    for ref in refs:
        exchange = find_exchange(log, ref)
        if exchange.family != family.name:
            raise BadInput(
                f"Exchange {ref} is one of {exchange.family or 'no family'}, not of {family.name}.",
                mend=f"ollama-ft logs --family {family.name}",
            )
        found[exchange.uid] = ref
    return found


def _see_that_all_are_vouched_for(named: dict[str, str], seen: Sequence[Candidate]) -> None:
    right = {one.uid for one in seen if one.tier in (CORRECTED, UP)}
    if missing := [ref for uid, ref in named.items() if uid not in right]:
        raise BadInput(
            f"Nobody said what is right for exchange {', '.join(missing)}.",
            mend=f'ollama-ft feedback {missing[0]} --correct "…"',
        )


def _taught(db: "Database", home: "Home", family: Family) -> Banned:
    """What any data of the family has to learn from."""
    rows: dict[bytes, Conversation] = {}
    for dataset in every(db, Dataset, family=family.name):
        if datasets.is_here(home, dataset):
            taught = (row for row in datasets.load(home, dataset) if row.split != "test")
            rows |= {row.question_key: replace(row, cluster="") for row in taught}
    return Banned(rows=tuple(rows.values()))
