"""The two shapes of a metric, and what a metric over many answers is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ollama_ft.core.conversation import Conversation


@dataclass(frozen=True, kw_only=True)
class Served:
    """One question with its reference, and what came back. What nobody measured is None."""

    question: Conversation
    answer: str
    stopped: bool  # it ended by itself
    seconds: float | None = None  # from the request to the last token, loading left out
    tokens: int | None = None  # of the answer, as the runtime counts them
    writing: float | None = None  # seconds of `seconds` in which the answer was written
    likelihood: tuple[float, int] | None = None  # log p of the reference in nats; its tokens
    chances: Mapping[str, float] | None = None  # label → probability, summing to 1


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number for one answer. The metric of a version is the mean over its answers."""

    name: str
    measure: Callable[[str, Conversation], float | None]  # None: does not apply to this question
    always: bool = True  # taken of every answer in every evaluation; else when it is asked for


@dataclass(frozen=True, kw_only=True)
class CorpusMetric:
    """A number for all answers together, taken when it is asked for."""

    name: str
    measure: Callable[[Sequence[Served]], float | None]  # never called without an answer
    needs: Literal["", "likelihood", "chances"] = ""  # the costly field of Served that it reads
