"""What makes a conversation unfit to learn from, and what can be told by looking at its text.

Pure functions over conversations. `fault` is asked of every row on reading; a row is never mended
in silence.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import pairwise

from ollama_ft.core.conversation import Conversation

# Name, and the Unicode names that its letters begin with.
_SCRIPTS = {
    "Chinese": ("CJK",),
    "Japanese": ("HIRAGANA", "KATAKANA"),
    "Korean": ("HANGUL",),
    "Cyrillic": ("CYRILLIC",),
    "Arabic": ("ARABIC",),
    "Latin": ("LATIN",),
}


def fault(conversation: Conversation) -> str:
    """What is wrong with the conversation, as the end of "row 7 …"; "" if nothing is."""
    return _fault_of_roles(conversation) or _fault_of_text(conversation)


def _fault_of_roles(conversation: Conversation) -> str:
    roles = [message.role for message in conversation.messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns:
        return "has no question and no answer"
    if "system" in turns:
        return "has a system message that is not its first message"
    if turns[0] != "user":
        return "begins with an answer; a question must come first"
    for number, (before, after) in enumerate(pairwise(turns), start=2):
        if before == after:
            kind = "questions" if before == "user" else "answers"
            return f"has two {kind} in a row (turn {number}); the turns must alternate"
    if turns[-1] != "assistant":
        return "ends with a question; the last turn must be the answer to learn"
    return ""


def _fault_of_text(conversation: Conversation) -> str:
    kinds = {"system": "system message", "user": "question", "assistant": "answer"}
    for message in conversation.messages:
        kind = kinds[message.role]
        if not message.content.strip():
            return f"has an empty {kind}"
        if bad := _bad_character(message.content):
            return f"has {bad} in its {kind}"
    marks = (*conversation.must_not_say, *conversation.tags, conversation.source)
    for text in (*conversation.accept, *conversation.passages, *marks, conversation.cluster):
        if bad := _bad_character(text):
            return f"has {bad} in one of its {MARKS}"
    if not all(text.strip() for text in conversation.accept):
        return 'has an empty text in its "accept", which any answer would contain'
    if not all(text.strip() for text in conversation.must_not_say):
        return 'has an empty text in its "must_not_say", which any answer would contain'
    return ""


MARKS = '"accept", "must_not_say", "passages", "tags", "cluster" and "source"'
_HALF = re.compile("[\ud800-\udfff]")


def _bad_character(text: str) -> str:
    if "\x00" in text:
        return "a NUL character"
    # Half of a pair cannot be written as UTF-8: it would only fail later, at the runtime.
    if not text.isascii() and _HALF.search(text):
        return "half of a surrogate pair (a broken \\u escape)"
    return ""


def script(text: str) -> str:
    """The script that most letters of `text` are in: "Latin", "Chinese" …, "other" or "none".

    Rough on purpose: a script is not a language. Japanese mixes Chinese characters with kana, so
    that any kana at all decide for it.
    """
    counts: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            counts[_script(letter)] += times
    if counts["Japanese"]:
        return "Japanese"
    return counts.most_common(1)[0][0] if counts else "none"


@lru_cache(maxsize=20_000)
def _script(letter: str) -> str:
    if letter.isascii():
        return "Latin"
    name = unicodedata.name(letter, "")
    return next((s for s, starts in _SCRIPTS.items() if name.startswith(starts)), "other")
