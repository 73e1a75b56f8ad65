"""What people give answers when they do not know whose they are; and the blend with the automatic.

Three marks from 1 (bad) to 5 (good), each of its own:

    relevance   does it answer the question that was asked
    fluency     does it read as a person would write it
    expertise   is it right, and does it tell what somebody in the trade would tell
"""

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from ollama_ft.core.errors import BadInput
from ollama_ft.core.judged_records import Rating
from ollama_ft.kinds.pairs import Pair

MARKS = ("relevance", "fluency", "expertise")
AUTOMATIC, HUMAN = 0.4, 0.6  # the shares of the blend


@dataclass(frozen=True, kw_only=True)
class Human:
    """People's marks for one version: means from 1 to 5."""

    questions: int  # that were rated, by anybody
    raters: int
    relevance: float
    fluency: float
    expertise: float

    @property
    def score(self) -> float:
        """The mean of the three marks as 0 to 100: 1 is 0, 5 is 100."""
        return 25 * (mean((self.relevance, self.fluency, self.expertise)) - 1)


@dataclass(frozen=True, kw_only=True)
class Blend:
    """One version's two scores and their blend, each 0 to 100. Never shown without its parts."""

    automatic: float  # the share of questions answered right
    human: float

    @property
    def score(self) -> float:
        """40 % automatic, 60 % human."""
        return AUTOMATIC * self.automatic + HUMAN * self.human


def shuffled(pairs: Sequence[Pair], seed: int) -> list[tuple[Pair, bool]]:
    """The pairs in the order of the seed; with each, whether the second version is shown first.

    A pair's place hangs on the seed and the question alone, so that a later sitting goes on where
    an earlier one stopped, whatever was asked in between.
    """

    def drawn(pair: Pair) -> float:
        return random.Random(f"{seed}:{pair.question_digest}").random()

    # The order uses the draw, the side its last bit: they do not tell of each other.
    return [(pair, int(drawn(pair) * 2**53) % 2 == 1) for pair in sorted(pairs, key=drawn)]


def read_marks(text: str) -> tuple[int, int, int]:
    """Three marks from what was typed: "5 4 3", "543", "5,4,3", "５４３".

    Raises BadInput for anything else.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    if not re.fullmatch(r"[1-5]([\s,;/、]*[1-5]){2}", plain):
        raise BadInput("Three marks from 1 to 5 are wanted: relevance, fluency, expertise: 5 4 3.")
    relevance, fluency, expertise = (int(digit) for digit in plain if digit.isdigit())
    return relevance, fluency, expertise


def summary(ratings: Sequence[Rating]) -> Human | None:
    """The means of one version's ratings; None if there is none."""
    if not ratings:
        return None
    return Human(
        questions=len({rating.question_digest for rating in ratings}),
        raters=len({rating.rater for rating in ratings}),
        relevance=mean(rating.relevance for rating in ratings),
        fluency=mean(rating.fluency for rating in ratings),
        expertise=mean(rating.expertise for rating in ratings),
    )


def preferred(ratings: Sequence[Rating], first: int, second: int) -> tuple[int, int, int]:
    """How often a rater gave the first version more marks in sum, the second, or both as many."""
    sums: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for rating in ratings:
        marks = rating.relevance + rating.fluency + rating.expertise
        sums[rating.rater, rating.question_digest][rating.version] = marks
    pairs = [(both[first], both[second]) for both in sums.values() if len(both) > 1]
    more, fewer = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    return more, fewer, len(pairs) - more - fewer


def agreement(ratings: Sequence[Rating]) -> dict[str, float] | None:
    """Krippendorff's alpha of each mark, ordinal: 1 = raters agree, 0 = as chance would have it.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", by the library `krippendorff`.
    A mark that has the same value everywhere is left out: alpha is not defined for it. None with
    fewer than two raters, or if no answer was rated by two.
    """
    raters = sorted({rating.rater for rating in ratings})
    answers = sorted({_answer(rating) for rating in ratings})
    given = {(rating.rater, _answer(rating)): rating for rating in ratings}
    if not any(sum((rater, a) in given for rater in raters) > 1 for a in answers):
        return None
    import krippendorff
    import numpy as np

    found = {}
    for mark in MARKS:
        table = [
            [getattr(given.get((rater, answer)), mark, np.nan) for answer in answers]
            for rater in raters
        ]
        if len({value for line in table for value in line if value == value}) > 1:
            found[mark] = float(
                krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal")
            )
    return found


def _answer(rating: Rating) -> tuple[int, str]:
    return rating.version, rating.question_digest
