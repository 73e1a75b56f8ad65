"""Rules about one exchange by itself: rated down, broken off, unfit, too long, not knowing."""

import re
from collections.abc import Sequence

from ollama_ft.core.words import is_unspaced
from ollama_ft.kinds.filters import fault
from ollama_ft.kinds.harvest.candidate import (
    CORRECTED,
    DOWN,
    UNRATED,
    UP,
    Candidate,
    Settings,
    Sieved,
    divide,
)

UNSURE = re.compile(
    r"\b(?:i(?:'m| am) not (?:sure|certain)|i (?:do not|don't|cannot|can't) (?:know|say|answer)"
    r"|as an ai|i(?:'m| am) (?:sorry|unable)|might be|not aware of)\b"
    r"|不确定|不知道|不清楚|无法(?:回答|确定|提供)|抱歉|可能是",
    re.IGNORECASE,
)


def not_down(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """An answer that somebody thought bad is no target, nor where the model said it again.

    Of one answer to one question the newest opinion counts; what somebody wrote stays.
    """
    bad = {  # the newest opinion of each answer wins: it comes last
        one.said_key: one
        for one in sorted(candidates, key=lambda one: one.at)
        if one.tier in (DOWN, CORRECTED)
    }

    def why(one: Candidate) -> str:
        if one.tier == DOWN:
            return "rated down"
        worse = bad.get(one.taught_key)
        if worse is None or one.tier == CORRECTED or (one.tier == UP and one.at > worse.at):
            return ""
        return f"rated down in {worse.uid}" if worse.tier == DOWN else f"corrected in {worse.uid}"

    return divide(candidates, why)


def whole(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Answers that broke off, failed, or stand among tool calls and images are left out."""
    return divide(candidates, lambda one: one.trouble)


def fit(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """What `data check` refuses in a file is left out here."""
    return divide(candidates, lambda one: fault(one.row))


def short_enough(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Rows that would not go into the recipe's max_length are left out."""

    def why(one: Candidate) -> str:
        about = sum(_tokens(message.content) for message in one.row.messages)
        return f"about {about} tokens" if about > settings.most_tokens else ""

    return divide(candidates, why)


def knows(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Unrated answers that do not know, or refuse, are left out: nobody asked for those."""
    return divide(
        candidates,
        lambda one: (
            "sounds unsure" if one.tier == UNRATED and UNSURE.search(one.row.answer) else ""
        ),
    )


def _tokens(text: str) -> int:
    # Small vocabularies need up to three tokens for two Chinese characters, and seldom more than
    # one for three English letters. Only what is far too long must be seen here.
    return int(len(text) * 1.5) if is_unspaced(text) else len(text) // 3
