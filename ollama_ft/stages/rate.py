"""People's marks for two versions' answers, given blindly, pair by pair.

Reads:  versions
Writes: ratings
"""

from collections.abc import Sequence

from ollama_ft.core.catalog import append, every
from ollama_ft.core.judged_records import Rating
from ollama_ft.core.records import Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.pairs import Pair
from ollama_ft.kinds.ratings import Human, shuffled, summary

Marks = tuple[int, int, int]  # relevance, fluency, expertise


def unrated(
    db: Database,
    first: Version,
    second: Version,
    pairs: Sequence[Pair],
    *,
    rater: str,
    seed: int,
) -> list[tuple[Pair, bool]]:
    """The pairs that this rater has not rated yet, in the seed's order; see kinds' `shuffled`."""
    done = {row.question_digest for row in ratings(db, first, second) if row.rater == rater}
    return [case for case in shuffled(pairs, seed) if case[0].question_digest not in done]


def rate(
    db: Database,
    first: Version,
    second: Version,
    pair: Pair,
    *,
    marks: tuple[Marks, Marks],
    turned: bool,
    rater: str,
) -> tuple[Rating, Rating]:
    """Store one rated pair: both rows or none.

    `marks` are those of the answer that was shown first, then of the other; `turned` says that
    the second version's was shown first.
    """
    low, high = sorted((first.key, second.key))
    shown = (second, first) if turned else (first, second)

    def row(place: int) -> Rating:
        relevance, fluency, expertise = marks[place]
        return Rating(
            first=low,
            second=high,
            version=shown[place].key,
            question_digest=pair.question_digest,
            rater=rater,
            shown=0 if pair.same else place + 1,
            relevance=relevance,
            fluency=fluency,
            expertise=expertise,
        )

    with db.atomic():
        return append(db, row(0)), append(db, row(1))


def ratings(db: Database, first: Version, second: Version) -> list[Rating]:
    """All rows of a pair of versions, newest first."""
    low, high = sorted((first.key, second.key))
    return every(db, Rating, first=low, second=high)


def human(db: Database, version: Version) -> Human | None:
    """What people gave a version's answers, against whichever other version; None if nothing."""
    return summary(every(db, Rating, version=version.key))
