"""How answers are given, whatever they say: ending, length, refusals, variety."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from ollama_ft.core.conversation import Conversation, fold
from ollama_ft.kinds.metrics.shapes import Served
from ollama_ft.kinds.metrics.words import tokens

# Openings by which models decline, after `fold`, as in the prefix list of Zou et al. 2023
# (arXiv 2307.15043); matched as phrases, so that "I cannot recommend it enough" is no refusal.
_HELP = (
    "help|assist|answer|provide|do that|comply|fulfil|discuss|give you|tell you|share|support|"
    "create|generate|write|engage|offer|advise|continue|respond|disclose|participate"
)
_CANNOT = (
    r"\bi ?(?:can ?not|can't|could not|couldn't|won't|will not|am unable to|'m unable to|"
    r"am not able to|'m not able to|am not allowed to|'m not allowed to)"
)
_ENGLISH = (
    rf"{_CANNOT}(?: \w+)? (?:{_HELP})\b",
    r"\bi (?:must|have to) (?:decline|refuse)\b",
    rf"\bas an? (?:ai|artificial intelligence|language model)\b.{{0,60}}{_CANNOT}",
    r"\bsorry,? but .{0,24}\b(?:can ?not|can't|won't|unable to|not able to|not allowed)\b",
    r"\bi(?:'m| am) (?:just|only) an ai\b",
)
_CHINESE = (
    r"(?:抱歉|对不起|很遗憾|不好意思).{0,8}(?:无法|不能|没办法|不便|不可以)",
    r"我(?:无法|不能|没办法|不便)(?:为您|为你|给您|给你|向您|向你)?"
    r"(?:提供|回答|帮助|协助|满足|完成|讨论|生成|继续|透露|告诉|回应)",
    r"作为(?:一个|一名|一款)?(?:人工智能|ai|语言模型).{0,24}(?:无法|不能|没办法)",
)
_REFUSAL = re.compile("|".join((*_ENGLISH, *_CHINESE)))
OPENING = 160  # characters in which a refusal shows; later ones are conditions of an answer


def length_ratio(answer: str, question: Conversation) -> float | None:
    """Tokens of the answer over tokens of the reference, as `tokens` counts them.

    1: as long as the reference. None for a reference without a token.
    """
    wanted = len(tokens(question.answer))
    return len(tokens(answer)) / wanted if wanted else None


def refusal(answer: str, question: Conversation) -> float:
    """1 if the answer declines to answer, in English or Chinese, else 0; the mean is the rate.

    Told by the phrases with which models decline (after Zou et al. 2023, arXiv 2307.15043) in the
    first OPENING characters. "I don't know" is no refusal, and neither is an apology that is
    followed by an answer. A refusal in other words is missed: the rate is a lower bound.
    """
    return float(_REFUSAL.search(fold(answer)[:OPENING]) is not None)


def stops(done_reason: str) -> bool:
    """Whether a generation ended by itself: Ollama's `done_reason` is "stop", not "length"."""
    return done_reason == "stop"


def stop_rate(served: Sequence[Served]) -> float:
    """The share of answers that ended by themselves, before their budget of tokens was used up."""
    return sum(one.stopped for one in served) / len(served)


def distinct_1(served: Sequence[Served]) -> float | None:
    """Different tokens over all tokens, all answers together: 1 = none comes twice.

    Distinct-1 of Li et al. 2016 (arXiv 1510.03055). It falls as answers grow in number and length:
    compare it only between versions that were asked the same. None if there is no token.
    """
    return _distinct(served, 1)


def distinct_2(served: Sequence[Served]) -> float | None:
    """Different pairs of neighbouring tokens over all such pairs; see distinct_1.

    Li et al. divide by all tokens; over the pairs, as later work does, 1 can be reached.
    """
    return _distinct(served, 2)


def _distinct(served: Sequence[Served], n: int) -> float | None:
    grams = [gram for one in served for gram in _grams(tokens(one.answer), n)]
    return len(set(grams)) / len(grams) if grams else None


def _grams(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    # Never across two answers.
    return zip(*(islice(words, i, None) for i in range(n)), strict=False)
