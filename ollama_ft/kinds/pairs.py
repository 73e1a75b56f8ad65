"""Two versions' answers to one question side by side, and who won by the references."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ollama_ft.core.conversation import Conversation, normalise

Winner = Literal["first", "second", "tie"]
OPPOSITE: dict[str, str] = {"first": "second", "second": "first"}


class Answered(Protocol):
    """What is read of an evaluation's answers."""

    @property
    def question_digest(self) -> str: ...  # noqa: D102
    @property
    def question(self) -> str: ...  # noqa: D102
    @property
    def expected(self) -> str: ...  # noqa: D102
    @property
    def answer(self) -> str: ...  # noqa: D102
    @property
    def right(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One question that two versions were asked, with both answers."""

    question_digest: str
    question: str
    expected: str
    first: str
    second: str
    first_right: bool
    second_right: bool

    @property
    def winner(self) -> Winner:
        """Who is right where the other is wrong; "tie" if both are, or neither."""
        if self.first_right == self.second_right:
            return "tie"
        return "first" if self.first_right else "second"

    @property
    def same(self) -> bool:
        """Whether both answers say the same, letter by letter but for case, width and edges."""
        return normalise(self.first) == normalise(self.second)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many questions each of two versions won, by the references."""

    first: int
    second: int
    both_right: int
    both_wrong: int

    @property
    def total(self) -> int:
        """Questions that both were asked."""
        return self.first + self.second + self.both_right + self.both_wrong


def pair_up(first: Iterable[Answered], second: Iterable[Answered]) -> list[Pair]:
    """The questions that both were asked, in the order of `first`; each question once."""
    others = {answered.question_digest: answered for answered in second}
    mine = {answered.question_digest: answered for answered in first}
    return [
        Pair(
            question_digest=digest,
            question=one.question,
            expected=one.expected,
            first=one.answer,
            second=other.answer,
            first_right=one.right,
            second_right=other.right,
        )
        for digest, one in mine.items()
        if (other := others.get(digest)) is not None
    ]


def count(pairs: Sequence[Pair]) -> Counts:
    """Won, lost, both right, both wrong."""
    found = Counter((pair.first_right, pair.second_right) for pair in pairs)
    return Counts(
        first=found[True, False],
        second=found[False, True],
        both_right=found[True, True],
        both_wrong=found[False, False],
    )


def unasked(questions: Iterable[Conversation], answered: Iterable[Answered]) -> list[Conversation]:
    """The questions that are not among the answered ones."""
    known = {one.question_digest for one in answered}
    return [question for question in questions if question.digest not in known]
