"""Decay: does the live version do worse than it did, or than the one before it?

Reads:  promotions, evaluations, checks; exchanges, feedback (the log)
Writes: checks

In its probation a version is held against the one that it replaced: by the ratings of both, and by
their scores on one suite. Later it is held against itself: this week's ratings against those
before, the score on its newest suite against that on its first.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta

from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.records import Evaluation, Promotion, Version
from ollama_ft.core.refs import Live
from ollama_ft.core.sqlite import Database
from ollama_ft.core.watch_records import Check
from ollama_ft.kinds.decay import Decay, Rate, compare, cooling, on_probation

WINDOW = timedelta(days=7)  # outside a probation, what is "now"
MEMORY = timedelta(days=90)  # how far back the former version's ratings count
EXAMPLES = 5


def look(db: Database, log: Database, live: Live, now: datetime) -> dict[str, Decay]:
    """The live version's figures beside the former ones: "up-rate", and "score" if it has two."""
    alarmed = was_alarmed(db, live)
    former = _former(db, live, now)
    found = {"up-rate": _ratings(log, live, former, now, alarmed)}
    if pair := _scores(db, live, former):
        before, after = (Rate(good=e.right, of=e.questions) for e in pair)
        found["score"] = compare(before, after, alarmed=alarmed)
    return found


def verdict(found: Mapping[str, Decay]) -> str:
    """ "decayed" if any figure is; "unknown" if none can tell; else "steady"."""
    said = {decay.verdict for decay in found.values()}
    return next(word for word in ("decayed", "steady", "unknown") if word in said)


def may_roll_back(db: Database, live: Live, now: datetime) -> str:
    """Why decay is not followed by a rollback now; "" if it is."""
    promotion = live.promotion
    if promotion.parent is None:
        return "no version was live before it"
    if not on_probation(promotion.at, promotion.action, now):
        return "its probation is over" if promotion.action == "promote" else "it was rolled back to"
    last = newest(db, Promotion, family=live.version.family, action="rollback", outcome="done")
    if cooling(last.at if last else None, now):
        return "the last rollback is too recent for another one that nobody asked for"
    return ""


def examples(log: Database, live: Live, most: int = EXAMPLES) -> list[dict[str, object]]:
    """The newest answers of the live version that somebody did not like."""
    rows = log.query(
        """
        select v.id, v.question_text as question, v.answer, v.rating, v.correction
        from exchanges_view v
        where v.id in (select exchange from feedback where rating in ('down', 'corrected'))
          and v.rating in ('down', 'corrected') and v.version = ? and v.at >= ?
        order by v.id desc limit ?
        """,
        [live.version.tag, live.promotion.at, most],
    )
    return list(rows)


def record(db: Database, live: Live, found: Mapping[str, Decay], action: str) -> Check:
    """Append what was seen and what was done."""
    return append(
        db,
        Check(
            family=live.version.family,
            version=live.version.key,
            promotion=live.promotion.key,
            verdict=verdict(found),
            action=action,
            figures_json=json.dumps({name: asdict(decay) for name, decay in found.items()}),
        ),
    )


def was_alarmed(db: Database, live: Live) -> bool:
    """Whether the last look that could tell, since it went live, said that it has decayed."""
    looks = every(db, Check, promotion=live.promotion.key)
    return next((look.verdict == "decayed" for look in looks if look.verdict != "unknown"), False)


def _former(db: Database, live: Live, now: datetime) -> Version | None:
    """The version that the live one replaced; None once its probation is over."""
    promotion = live.promotion
    if promotion.parent is None or not on_probation(promotion.at, promotion.action, now):
        return None
    return row(db, Version, row(db, Promotion, promotion.parent).version)


def _scores(
    db: Database, live: Live, former: Version | None
) -> tuple[Evaluation, Evaluation] | None:
    """Before and now: the former version on the live one's newest suite; else its own first."""
    own = every(db, Evaluation, version=live.version.key, suite="")  # newest first
    if not own:
        return None
    if former is not None:
        suite = own[0].suite_digest
        before = newest(db, Evaluation, version=former.key, suite_digest=suite)
        return (before, own[0]) if before else None
    return (own[-1], own[0]) if len(own) > 1 else None


def _ratings(
    log: Database, live: Live, former: Version | None, now: datetime, alarmed: bool
) -> Decay:
    since = datetime.fromisoformat(live.promotion.at)
    soon = now + timedelta(seconds=1)  # what is asked in this very second counts too
    if former is not None:
        before = rated(log, former.tag, since - MEMORY, since)
        return compare(before, rated(log, live.version.tag, since, soon), alarmed=alarmed)
    start = max(since, now - WINDOW)
    return compare(
        rated(log, live.version.tag, since - MEMORY, start),
        rated(log, live.version.tag, start, soon),
        alarmed=alarmed,
    )


def rated(log: Database, tag: str, since: datetime, until: datetime) -> Rate:
    """How many of a version's rated answers, asked in [since, until], are liked."""
    rows = log.execute(
        """
        select f.rating = 'up', count(*)
        from feedback f join exchanges e on e.id = f.exchange
        where f.id = (
            select id from feedback where exchange = e.id order by at desc, id desc limit 1
          )
          and e.version = ? and e.at >= ? and e.at < ? and e.status = 'complete'
        group by 1
        """,
        [tag, since.isoformat(timespec="seconds"), until.isoformat(timespec="seconds")],
    ).fetchall()
    counts = dict(rows)
    return Rate(good=counts.get(1, 0), of=sum(counts.values()))
