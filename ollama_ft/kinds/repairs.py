"""What can be set right in a row without guessing what it means.

Each repair is a plain function from a conversation to a conversation, under the words that a
reader is told. A row that none of them changes is the row itself.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from ollama_ft.core.conversation import Conversation, Message

Repair = Callable[[Conversation], Conversation]

_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>\s*", re.DOTALL)
# NUL, other control characters but tab and line feed, zero-width space and BOM, halves of pairs.
# Zero-width joiners stay: they hold emoji and Persian words together.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff\ud800-\udfff]")


def repaired(row: Conversation) -> tuple[Conversation, tuple[str, ...]]:
    """The row with every repair that it needs, and their names."""
    done = []
    for name, repair in REPAIRS.items():
        better = repair(row)
        if better != row:
            row = better
            done.append(name)
    return row, tuple(done)


def in_all_texts(row: Conversation, change: Callable[[str], str]) -> Conversation:
    """The row with this change in every turn, accepted text and passage."""
    return replace(
        row,
        messages=tuple(Message(role=m.role, content=change(m.content)) for m in row.messages),
        accept=tuple(map(change, row.accept)),
        passages=tuple(map(change, row.passages)),
    )


def _each(change: Callable[[str], str]) -> Repair:
    return lambda row: in_all_texts(row, change)


def _without_thoughts(row: Conversation) -> Conversation:
    turns = tuple(
        Message(role=m.role, content=_THOUGHT.sub("", m.content)) if m.role == "assistant" else m
        for m in row.messages
    )
    return replace(row, messages=turns)


def _without_empty_system(row: Conversation) -> Conversation:
    kept = tuple(m for m in row.messages if m.role != "system" or m.content.strip())
    return replace(row, messages=kept)


def _from_question_to_answer(row: Conversation) -> Conversation:
    """Without answers before the first question, and questions behind the last answer."""
    front = [m for m in row.messages[:1] if m.role == "system"]
    turns = list(row.messages[len(front) :])
    while turns and turns[0].role == "assistant":
        turns.pop(0)
    while turns and turns[-1].role == "user":
        turns.pop()
    return replace(row, messages=(*front, *turns)) if turns else row


def _joined(row: Conversation) -> Conversation:
    turns: list[Message] = []
    for message in row.messages:
        if turns and turns[-1].role == message.role != "system":
            text = f"{turns[-1].content}\n{message.content}"
            turns[-1] = Message(role=message.role, content=text)
        else:
            turns.append(message)
    return replace(row, messages=tuple(turns))


REPAIRS: dict[str, Repair] = {
    "line breaks made plain": _each(lambda text: text.replace("\r\n", "\n").replace("\r", "\n")),
    "invisible characters taken out": _each(lambda text: _INVISIBLE.sub("", text)),
    "thinking taken out of the answer": _without_thoughts,
    "spaces at the ends taken off": _each(str.strip),
    "empty system message left out": _without_empty_system,
    "turns without their other half left out": _from_question_to_answer,
    "turns of one speaker joined": _joined,
}
