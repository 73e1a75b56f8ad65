"""General text: what a family does not teach, and must not lose.

Two kinds ship with ollama-ft, in English and Chinese: `replay` text, on which a training keeps the
model where it was, and `general` text, on which forgetting is measured. They share no passage.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import Conversation
from ollama_ft.core.home import shipped
from ollama_ft.kinds.filters import script

if TYPE_CHECKING:
    from ollama_ft.weights.tokenizer import Tokenizer

PIECE = 64  # tokens; long enough for the context to matter, short enough for two in every step
SHARE = 0.2  # of the rows must be in Chinese for the Chinese text to be used beside the English


def general_pieces(
    tokenizer: "Tokenizer", rows: Sequence[Conversation]
) -> tuple[tuple[int, ...], ...]:
    """The replay text in the rows' languages, as pieces of PIECE tokens."""
    names = ["replay.txt", *(["replay-zh.txt"] if _chinese(rows) >= SHARE else [])]
    pieces = []
    for name in names:
        tokens = tokenizer.encode(_read(name), add_bos=False)
        whole = range(0, len(tokens) - PIECE + 1, PIECE)
        pieces += [tuple(tokens[start : start + PIECE]) for start in whole]
    return tuple(pieces)


def measured_text(rows: Sequence[Conversation]) -> str:
    """The text on which forgetting is measured: in Chinese if most rows are, else in English."""
    return _read("general-zh.txt" if _chinese(rows) > 0.5 else "general.txt")


def _chinese(rows: Sequence[Conversation]) -> float:
    return sum(script(row.question) == "Chinese" for row in rows) / max(1, len(rows))


def _read(name: str) -> str:
    return (shipped() / "data" / name).read_text(encoding="utf-8")
