"""How many tokens rows have as the runtime renders them, without rendering those that are short.

A token is at least one byte of text, so a row with fewer bytes than tokens are allowed, the
template's own tokens taken off, cannot be too long: of a million rows few need the runtime.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import Unsupported
from ollama_ft.kinds.rendering import Render, render_rows, tokenise
from ollama_ft.kinds.report import UNRENDERED, Limit

if TYPE_CHECKING:
    from ollama_ft.weights.tokenizer import Tokenizer

_SHORT = Conversation(
    messages=(Message(role="user", content="a"), Message(role="assistant", content="b"))
)


def limit(render: Render, tokenizer: "Tokenizer", most: int) -> Limit:
    """At most `most` tokens in a row, prompt and answer together, under the runtime's template."""

    def count(row: Conversation) -> int:
        try:
            (rendered,) = render_rows(render, [row])
        except Unsupported:
            return UNRENDERED
        tokens = tokenise(tokenizer, rendered, row.answer)
        return len(tokens.prompt) + len(tokens.answer)

    frame = count(_SHORT)  # the template's own tokens around one exchange, a system message with it

    def tokens(rows: Sequence[Conversation]) -> list[int | None]:
        return [count(row) if _may_be(row, frame, most) else None for row in rows]

    return Limit(most=most, tokens=tokens)


def _may_be(row: Conversation, frame: int, most: int) -> bool:
    """Whether the row may be longer than `most`, or may not be rendered as it stands."""
    if row.answer != row.answer.strip() or "<think" in row.answer:
        return True
    size = sum(len(message.content.encode()) for message in row.messages)
    return size + frame * len(row.messages) > most
