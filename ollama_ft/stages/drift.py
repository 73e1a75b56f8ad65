"""Drift: is what people ask now what they asked before, and what was trained on?

Reads:  exchanges, messages, feedback (the log); the rows of a dataset, as they are given
Writes: drifts

Two samples of bounded size are compared, the first question of each conversation alone, so that a
log of a million exchanges takes little longer than one of ten thousand:

    questions   maximum mean discrepancy of their vectors, with a permutation p
    unlike      the share that is unlike anything trained on, beside the share before
    lengths     population stability of the questions' and the answers' characters
    ratings     population stability of up, down, corrected and unrated

Each is called drift when it is large enough to matter, and its p, times the number of comparisons
made, is at most ALPHA: all of them together raise a false alarm at most so often.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append
from ollama_ft.core.errors import NotEnoughData
from ollama_ft.core.sqlite import Database
from ollama_ft.core.watch_records import Drift
from ollama_ft.kinds import drift as kind
from ollama_ft.kinds.drift import Found

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]
    Vectors = Callable[[Sequence[str]], Array]

ALPHA = 0.01  # false alarms of all comparisons of one call together
COUNTED = 5_000  # exchanges of each side whose lengths and ratings are counted
EMBEDDED = 500  # questions of each side whose vectors are compared
TRAINED = 1_000  # trained questions that are compared with
LEAST = 50  # questions of a side
MORE_UNLIKE = 0.10  # the share unlike the training must grow by this much to be called drift
EXAMPLES = 5

_RATINGS = ("up", "down", "corrected", None)
_BATCH = 400  # rows that one statement asks for


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One logged question, as far as it is compared."""

    exchange: int
    question: str
    answer_length: int  # characters
    rating: str | None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the live version was trained on, and questions of the same data that it was not."""

    questions: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()


def sample(log: Database, family: str, since: str, until: str, *, seed: int = 0) -> list[Asked]:
    """At most COUNTED of the family's answered questions in [since, until), drawn at random.

    Only those that begin a conversation: the turns behind them are about the same thing, and so
    would count it twice. In the order they were drawn, so that any beginning is a sample too.
    """
    import numpy as np

    ids = np.fromiter(
        (row[0] for row in log.execute(
            "select id from exchanges where at >= ? and at < ?", [since, until]
        )),
        np.int64,
    )  # fmt: skip
    np.random.default_rng(seed).shuffle(ids)
    found: list[Asked] = []
    for start in range(0, len(ids), _BATCH):
        found += _read(log, family, ids[start : start + _BATCH].tolist())
        if len(found) >= COUNTED:
            break
    return found[:COUNTED]


def _read(log: Database, family: str, ids: Sequence[int]) -> list[Asked]:
    """Those of the ids that are the family's and begin a conversation, in the order of the ids."""
    # +family: the ids are what finds the rows; by its index a family's whole log would be read.
    rows = log.execute(
        f"""
        with recursive wanted as (
          select * from exchanges
          where id in ({",".join("?" * len(ids))}) and +family = ? and status = 'complete'
        ),
        above(exchange, parent, role) as (
          select w.id, m.parent, '' from wanted w join messages m on m.id = w.question
          union all
          select a.exchange, m.parent, m.role from above a join messages m on m.id = a.parent
        )
        select w.id, q.content, coalesce(length(r.content), 0),
          (select rating from feedback where exchange = w.id order by at desc, id desc limit 1)
        from wanted w
        join messages q on q.id = w.question
        left join messages r on r.id = w.reply
        where w.id not in (select exchange from above where role = 'user')
        """,
        [*ids, family],
    ).fetchall()
    by_id = {
        row[0]: Asked(exchange=row[0], question=row[1], answer_length=row[2], rating=row[3])
        for row in rows
    }
    return [by_id[i] for i in ids if i in by_id]


def compare(
    now: Sequence[Asked], before: Sequence[Asked], trained: Trained, vectors: "Vectors"
) -> tuple[list[Found], list[Asked]]:
    """Every comparison that the samples allow, and the questions of now that are most unlike.

    `before` may be empty: then `trained` is what is compared with, by the questions alone.
    `vectors` makes rows of length 1 of texts.

    Raises NotEnoughData if there are too few questions now, or nothing to compare with.
    """
    _check_enough(now, before, trained)
    recent: Array = vectors([a.question for a in now[:EMBEDDED]])
    known = vectors(trained.questions[:TRAINED]) if trained.questions else None
    held = vectors(trained.held_out[:TRAINED]) if trained.held_out else recent[:0]
    former = vectors([a.question for a in before[:EMBEDDED]]) if len(before) >= LEAST else None
    other = former if former is not None else known
    assert other is not None, "there is one of the two, or there is not enough data"
    level = ALPHA / (5 if former is not None and known is not None else 4 if known is None else 2)
    found = [_questions(recent, other, level)]
    nearness = kind.nearest(recent, known if known is not None else other)
    if known is not None:
        edge = kind.unlike_below(held, known)
        past = kind.nearest(former if former is not None else held, known)
        unlike, were = int((nearness < edge).sum()), int((past < edge).sum())
        found.append(_unlike(unlike, len(recent), were, len(past), level))
    if former is not None:
        found += [*_lengths(now, before, level), _ratings(now, before, level)]
    order = sorted(range(len(recent)), key=lambda i: float(nearness[i]))
    return found, [now[i] for i in order[:EXAMPLES]]


def record(
    db: Database,
    family: str,
    version: int | None,
    now: Sequence[Asked],
    before: Sequence[Asked],
    found: Sequence[Found],
    examples: Sequence[Asked],
    *,
    by: str,
) -> Drift:
    """Append the row of a comparison; `by` says what the vectors were made by.

    The examples' texts stay in the log, where they can be forgotten.
    """
    figures = {
        "vectors": by,
        "against": "the log" if len(before) >= LEAST else "the training",
        "found": [asdict(f) for f in found],
        "examples": [a.exchange for a in examples],
    }
    return append(
        db,
        Drift(
            family=family,
            version=version,
            drifted=int(any(f.drifted for f in found)),
            now=len(now),
            before=len(before),
            figures_json=json.dumps(figures, ensure_ascii=False),
        ),
    )


def _check_enough(now: Sequence[Asked], before: Sequence[Asked], trained: Trained) -> None:
    if len(now) < LEAST:
        raise NotEnoughData(
            f"{len(now)} conversations came in this time; {LEAST} are the least to tell anything "
            f"by, {LEAST - len(now)} are missing.",
            mend="look at a longer time: ollama-ft drift --since 30d",
        )
    if len(before) < LEAST and len(trained.questions) < LEAST:
        raise NotEnoughData(
            f"There is nothing to compare with: {len(before)} conversations came before, and the "
            f"live version was trained on {len(trained.questions)} questions; {LEAST} of either "
            "are the least.",
            mend="wait, or look at a shorter time: ollama-ft drift --since 1d",
        )


def _questions(now: "Array", other: "Array", level: float) -> Found:
    distance, p = kind.mmd_test(now, other[:EMBEDDED])
    text = f"MMD² {distance:.4f}, by luck alone in {p:.2%} of cases"
    return Found(name="questions", size=distance, p=p, drifted=p <= level, text=text)


def _unlike(hits: int, n: int, misses: int, m: int, level: float) -> Found:
    """`hits` of n are unlike the training now, `misses` of m were; m 0: none were looked at."""
    if m == 0:  # then what counts is the share that is unlike by definition
        misses, m = round(kind.UNLIKE * n), n
    share, usual = hits / n, misses / m
    p = kind.more_often(hits, n, misses, m)
    return Found(
        name="unlike",
        size=share,
        p=p,
        drifted=p <= level and share - usual >= MORE_UNLIKE,
        text=f"{share:.0%} are unlike anything trained on, {usual:.0%} were",
    )


def _lengths(now: Sequence[Asked], before: Sequence[Asked], level: float) -> list[Found]:
    return [
        _stable(name, *kind.histograms([of(a) for a in now], [of(a) for a in before]), level)
        for name, of in (
            ("question length", lambda a: len(a.question)),
            ("answer length", lambda a: a.answer_length),
        )
    ]


def _ratings(now: Sequence[Asked], before: Sequence[Asked], level: float) -> Found:
    def count(side: Sequence[Asked]) -> tuple[int, ...]:
        return tuple(sum(a.rating == rating for a in side) for rating in _RATINGS)

    return _stable("ratings", count(now), count(before), level)


def _stable(name: str, now: Sequence[int], before: Sequence[int], level: float) -> Found:
    value = kind.psi(now, before)
    used = sum(1 for a, b in zip(now, before, strict=True) if a or b)
    p = kind.psi_p(value, sum(now), sum(before), used)
    return Found(
        name=name,
        size=value,
        p=p,
        drifted=p <= level and value >= kind.PSI_LARGE,
        text=f"PSI {value:.3f} ({kind.PSI_LARGE} and more is a major shift)",
    )
