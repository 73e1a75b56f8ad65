"""Metrics: from an answer and the question it answers to a number.

Each is a pure function behind a name. "right" means `contains`.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ollama_ft.core.conversation import Conversation, fold, normalise
from ollama_ft.core.plugins import Register, collect, hookimpl


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to score an answer."""

    name: str
    measure: Callable[[str, Conversation], float]  # (answer, question with its reference)


def score(answer: str, question: Conversation) -> dict[str, float]:
    """Every metric of one answer, by name. `question` carries the reference and `accept`."""
    return {name: m.thing.measure(answer, question) for name, m in collect("metrics").items()}


def exact(answer: str, question: Conversation) -> float:
    """1 if the answer is the reference after `normalise`, else 0.

    Exact match as in SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250, sec. 6.1), but articles and
    inner punctuation count.
    """
    return float(normalise(answer) == normalise(question.answer))


def contains(answer: str, question: Conversation) -> float:
    """1 if the reference, or any text of `accept`, stands in the answer, else 0.

    Both after `fold`; the reference without its closing punctuation. A text that begins or ends
    with a letter or digit must not go on in the answer: "12" is not in "2012" nor in "12.5".
    Chinese, Japanese and Korean have no word borders, and need none. The containment accuracy
    of closed-book question answering (as in Mallen et al. 2023, arXiv 2212.10511, sec. 3).
    """
    text = fold(answer)
    wanted = [normalise(question.answer), *(fold(accepted) for accepted in question.accept)]
    return float(any(_stands_in(part, text) for part in wanted if part))


def token_f1(answer: str, question: Conversation) -> float:
    """F1 of the tokens that answer and reference share, counted with multiplicity: 0 to 1.

    SQuAD's token F1 (arXiv 1606.05250, sec. 6.1): 2PR / (P + R), P and R the shares of the
    answer's and of the reference's tokens that are common. Chinese is taken by character, as in
    CMRC 2018 (arXiv 1810.07366, sec. 4.1). Articles count. Two texts without any token are equal.
    """
    given, wanted = tokens(answer), tokens(question.answer)
    if not given or not wanted:
        return float(given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    # 2PR / (P + R) with P = common/given, R = common/wanted.
    return 2 * common / (len(given) + len(wanted))


def length(answer: str, question: Conversation) -> float:
    """Tokens of the answer, as `tokens` counts them (not the model's own tokens)."""
    return float(len(tokens(answer)))


def stops(done_reason: str) -> bool:
    """Whether a generation ended by itself: Ollama's `done_reason` is "stop", not "length"."""
    return done_reason == "stop"


def tokens(text: str) -> list[str]:
    """The words of a text, folded; each Chinese, Japanese or Korean character is one token.

    Punctuation and symbols separate words and are no tokens themselves.
    """
    spaced = []
    for character in fold(text):
        if _is_cjk(character):
            spaced.append(f" {character} ")
        elif unicodedata.category(character)[0] in "LMN":
            spaced.append(character)
        else:
            spaced.append(" ")
    return "".join(spaced).split()


def _stands_in(part: str, text: str) -> bool:
    at = text.find(part)
    while at >= 0:
        end = at + len(part)
        if not (_goes_on(text[:at][::-1], part[0]) or _goes_on(text[end:], part[-1])):
            return True
        at = text.find(part, at + 1)
    return False


def _goes_on(rest: str, edge: str) -> bool:
    """Whether the word or number whose last character is `edge` goes on in `rest`."""
    if not edge.isalnum() or _is_cjk(edge) or not rest:
        return False
    if rest[0].isalnum():
        return not _is_cjk(rest[0])
    # 3.4 goes on in 3.45 and in 3.4.1, 12 in 12,000.
    return edge.isdigit() and rest[0] in ".," and rest[1:2].isdigit()


def _is_cjk(character: str) -> bool:
    # Ideographs, kana and Hangul by their blocks; the extension planes 2 and 3 are ideographs.
    return (
        "\u3040" <= character <= "\u30ff"
        or "\u3400" <= character <= "\u9fff"
        or "\uac00" <= character <= "\ud7af"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )


METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="exact", measure=exact),
        Metric(name="contains", measure=contains),
        Metric(name="token_f1", measure=token_f1),
        Metric(name="length", measure=length),
    )
}


@hookimpl
def register_metrics(register: Register) -> None:
    """Bring in the metrics above."""
    for name, metric in METRICS.items():
        register(name, metric)
