"""How fast answers come, by the runtime's own clock.

An evaluation asks several questions at a time: these are times under that load, on the machine it
ran on. Compare them between versions on one machine, not with anybody else's.
"""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from ollama_ft.kinds.metrics.shapes import Served

if TYPE_CHECKING:
    from ollama_ft.runtime.answers import Answer


def timings(answer: "Answer") -> dict[str, float]:
    """What the runtime told of one answer, to be stored beside its scores; empty if it told none.

    `seconds`: the whole request, loading left out. `writing`: seconds in which the answer was
    written. `tokens`: of the answer.
    """
    if not answer.done or not answer.total_seconds:
        return {}
    return {
        "seconds": round(answer.total_seconds - answer.load_seconds, 4),
        "writing": round(answer.answer_seconds, 4),
        "tokens": float(answer.answer_tokens),
    }


def latency(served: Sequence[Served]) -> float | None:
    """The median of the seconds from a question to the end of its answer, loading left out."""
    told = [one.seconds for one in served if one.seconds is not None]
    return median(told) if told else None


def tokens_per_second(served: Sequence[Served]) -> float | None:
    """Answer tokens over the seconds in which they were written, for one answer of several at once.

    All tokens over all seconds, not the mean of rates: short answers would count too much.
    """
    told = [(one.tokens, one.writing) for one in served if one.tokens and one.writing]
    seconds = sum(writing for _, writing in told)
    return sum(count for count, _ in told) / seconds if seconds else None
