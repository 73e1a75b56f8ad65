"""More ways to ask: training questions with some of their words left out.

A few phrasings teach a model those very sentences. With words missing it has to find the answer by
those that are left, as it must when somebody asks in words of their own. Only rows that are trained
on get variants; validation and test stay as people wrote them.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ollama_ft.core.conversation import Conversation, Message

LEFT_OUT = 0.3  # chance of each word
KEPT = 2  # words that stay at least
PIECE = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")  # a Chinese character, else a word


def with_variants(rows: Sequence[Conversation], count: int, seed: int) -> Iterator[Conversation]:
    """Each row, then at most `count` variants of it.

    The same rows and seed give the same variants.
    """
    for row in rows:
        yield row
        yield from _variants(row, count, seed)


def _variants(row: Conversation, count: int, seed: int) -> Iterator[Conversation]:
    chance = random.Random(f"{seed}/{row.digest}")  # text seeds are hashed alike everywhere
    seen = {row.question}
    for _ in range(count):
        question = shortened(row.question, chance)
        if question not in seen:
            seen.add(question)
            yield replace(row, messages=tuple(_asking(row, question)), tags=(*row.tags, "variant"))


def _asking(row: Conversation, question: str) -> Iterator[Message]:
    last = max(i for i, message in enumerate(row.messages) if message.role == "user")
    for i, message in enumerate(row.messages):
        yield Message(role="user", content=question) if i == last else message


def shortened(question: str, chance: random.Random) -> str:
    """The question without some of its words, the others in their places."""
    pieces = list(PIECE.finditer(question))
    kept = [piece for piece in pieces if chance.random() >= LEFT_OUT]
    if len(kept) < KEPT:
        kept = pieces[:KEPT]
    words: list[str] = []
    for piece in kept:
        before = question[: piece.start()]
        glued = bool(before) and not before[-1].isspace()
        words.append(piece[0] if glued or not words else f" {piece[0]}")
    return "".join(words)
