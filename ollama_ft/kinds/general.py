"""General text: what a family does not teach, and must not lose.

Two kinds ship with ollama-ft, in English and Chinese: `replay` text and `chats`, on which a
training keeps the model where it was, and `general` text, on which forgetting is measured. They
share no passage, and no question with the suites.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import Conversation
from ollama_ft.core.home import shipped
from ollama_ft.kinds.filters import script
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.rendering import Render, render_rows, tokenise
from ollama_ft.kinds.trainers.job import Row

if TYPE_CHECKING:
    from ollama_ft.weights.tokenizer import Tokenizer

PIECE = 64  # tokens; long enough for the context to matter, short enough for two in every step
SHARE = 0.2  # of the rows must be in Chinese for the Chinese text to be used beside the English


def replayed(
    tokenizer: "Tokenizer", render: Render, rows: Sequence[Conversation]
) -> tuple[Row, ...]:
    """Text and chats in the languages of `rows`, in turn; the shorter list is gone over again."""
    endings = ["", *(["-zh"] if _chinese(rows) >= SHARE else [])]
    pieces, chats = [], []
    for ending in endings:
        tokens = tokenizer.encode(_read(f"replay{ending}.txt"), add_bos=False)
        for start in range(0, len(tokens) - PIECE + 1, PIECE):
            piece = tuple(tokens[start : start + PIECE])
            pieces.append(Row(prompt=piece[:1], answer=piece[1:]))
        chats += _chats(f"chats{ending}.jsonl")
    talks = [
        tokenise(tokenizer, rendered, chat.answer)
        for rendered, chat in zip(render_rows(render, chats), chats, strict=True)
    ]
    longer, shorter = sorted([pieces, talks], key=len, reverse=True)
    return tuple(row for pair in zip(longer, cycle(shorter), strict=False) for row in pair)


def _chats(name: str) -> list[Conversation]:
    return [row for _, row in read_rows(shipped() / "data" / name)]


def measured_text(rows: Sequence[Conversation]) -> str:
    """The text on which forgetting is measured: in Chinese if most rows are, else in English."""
    return _read("general-zh.txt" if _chinese(rows) > 0.5 else "general.txt")


def _chinese(rows: Sequence[Conversation]) -> float:
    return sum(script(row.question) == "Chinese" for row in rows) / max(1, len(rows))


def _read(name: str) -> str:
    return (shipped() / "data" / name).read_text(encoding="utf-8")
