"""More rows from rows: the same question mistyped, or put in other words by a model.

What is made is marked with a tag, is only learned from, and is made of rows that are only learned
from: a model must never be asked in the test what a made row told it.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.kinds.near import is_near, plain
from ollama_ft.kinds.typos import with_typos

TYPO, PARAPHRASE = "augmented:typo", "augmented:paraphrase"
MADE = frozenset({TYPO, PARAPHRASE})

Ask = Callable[[str], str]  # a prompt to a model's answer

_PROMPT = (
    "Put this question in {count} different other ways. Keep its meaning, its language, all names "
    "and all numbers. Write one question on each line and nothing else.\n\n{question}"
)
_PROMPT_ZH = (
    "请用{count}种不同的说法改写下面的问题。意思、人名、地名和数字都不能变。"
    "每行写一个问题，不要写别的。\n\n{question}"
)
_NUMBERING = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.)、:：])\s*")
_DIGITS = re.compile(r"\d+")
_CHINESE = re.compile("[\u3400-\u9fff]")
_LONGEST = 3.0  # times the question's own length; what is longer is an answer or a remark


def is_made(row: Conversation) -> bool:
    """Whether the row was made from another one."""
    return not MADE.isdisjoint(row.tags)


def mistyped(rows: Sequence[Conversation], count: int, seed: int) -> Iterator[Conversation]:
    """`count` mistyped copies of each row that may be learned from; less where they are equal."""
    for row in _learned(rows):
        chance = random.Random(f"{seed}/{row.digest}")
        texts = dict.fromkeys(with_typos(row.question, chance) for _ in range(count))
        yield from (_asking(row, text, TYPO) for text in texts if text != row.question)


def paraphrased(
    rows: Sequence[Conversation], count: int, ask: Ask
) -> Iterator[tuple[list[Conversation], int]]:
    """For each row that may be learned from: at most `count` other ways to ask, and how many of
    the model's were refused.

    Refused is what loses or brings a number, is in another script, is no other way of asking at
    all (kinds/near), is a question of another row, or is far longer than the question.
    """
    taken = {row.question_key for row in rows}
    for row in _learned(rows):
        prompt = _PROMPT_ZH if _CHINESE.search(row.question) else _PROMPT
        lines = ask(prompt.format(count=count, question=row.question)).splitlines()
        texts = [text for line in lines if (text := _NUMBERING.sub("", line).strip())]
        fit = []
        for text in dict.fromkeys(texts):
            made = _asking(row, text, PARAPHRASE)
            if _says_the_same(row.question, text) and made.question_key not in taken:
                taken.add(made.question_key)
                fit.append(made)
        yield fit[:count], len(texts) - len(fit)


def _learned(rows: Sequence[Conversation]) -> Iterator[Conversation]:
    return (row for row in rows if row.split == "train" and not is_made(row))


def _says_the_same(question: str, text: str) -> bool:
    """What can be told of it by form; whether it means the same only a reader can tell."""
    return (
        sorted(_DIGITS.findall(question)) == sorted(_DIGITS.findall(text))
        and bool(_CHINESE.search(question)) == bool(_CHINESE.search(text))
        and len(text) <= _LONGEST * max(20, len(question))
        and not is_near(plain(question), plain(text))
    )


def _asking(row: Conversation, question: str, tag: str) -> Conversation:
    last = max(i for i, message in enumerate(row.messages) if message.role == "user")
    messages = list(row.messages)
    messages[last] = Message(role="user", content=question)
    return replace(row, messages=tuple(messages), tags=(*row.tags, tag), split="train")
