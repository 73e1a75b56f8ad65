"""Whether an answer that nobody rated says what the passages say that it was given."""

import re
from collections.abc import Sequence

from ollama_ft.core.words import folded, is_unspaced, to_ask
from ollama_ft.kinds.harvest.candidate import UNRATED, Candidate, Settings, Sieved, divide

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_ENDING = re.compile(r"(?<=[a-z]{3})(?:ing|ed|es|s|ly)$")
_SHORT = 3  # letters of English words that say little: "the", "is", "for"


def grounded(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Unrated answers stay if every number and enough of the words are in what was retrieved."""

    def why(one: Candidate) -> str:
        if one.tier != UNRATED:
            return ""
        if not one.passages:
            return "unrated, and nothing was retrieved for it"
        held = "\n".join(one.passages)
        if strange := _numbers(one.row.answer) - _numbers(held) - _numbers(one.row.question):
            return f"{min(strange)} is in no passage"
        share = support(one.row.answer, held)
        return f"{share:.0%} of its words in the passages" if share < settings.support else ""

    return divide(candidates, why)


def support(answer: str, held: str) -> float:
    """The share of the answer's words, 0 to 1, that are in `held`; English endings do not matter.

    Chinese counts by pairs of characters. Negation is not seen: "open" supports "not open".
    """
    said = _words(answer)
    return len(said & _words(held)) / len(said) if said else 0.0


def _words(text: str) -> set[str]:
    terms = to_ask(text)
    telling = {term for term in terms if len(term) > (1 if is_unspaced(term) else _SHORT)}
    return {_ENDING.sub("", term) for term in telling or terms}


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(folded(text))}
