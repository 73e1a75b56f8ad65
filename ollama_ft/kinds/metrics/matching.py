"""Whether an answer says what its reference says: exact, contains, regex, token_f1; length."""

from collections import Counter

from ollama_ft.core.conversation import Conversation, fold, normalise
from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.metrics.words import is_cjk, tokens

PATTERN = "re:"  # what an entry of `accept` begins with that is a regular expression
PATIENCE = 1.0  # seconds in which a pattern must have matched


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


def regex(answer: str, question: Conversation) -> float | None:
    """1 if a pattern of `accept` ("re:[0-9]+ days?") matches somewhere in the answer, else 0.

    None for a question without a pattern. The answer is taken as it is written; "(?i)" at the
    pattern's start ignores case. The syntax is that of the library `regex`, a superset of Python's.

    Raises BadInput for a pattern that is none, or that searches for longer than PATIENCE seconds
    (nested repetitions can take for ever).
    """
    import regex as library

    patterns = [a.removeprefix(PATTERN) for a in question.accept if a.startswith(PATTERN)]
    try:
        found = [library.search(pattern, answer, timeout=PATIENCE) for pattern in patterns]
    except (library.error, TimeoutError) as error:
        raise BadInput(
            f"A pattern of the question {question.question[:60]!r} cannot be used: {error}."
        ) from error
    return float(any(found)) if patterns else None


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
    if not edge.isalnum() or is_cjk(edge) or not rest:
        return False
    if rest[0].isalnum():
        return not is_cjk(rest[0])
    # 3.4 goes on in 3.45 and in 3.4.1, 12 in 12,000.
    return edge.isdigit() and rest[0] in ".," and rest[1:2].isdigit()
