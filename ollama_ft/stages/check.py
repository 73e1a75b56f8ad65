"""What a family's data is held against: its real template, and the questions that it is asked.

Reads:  bases
Writes: nothing
"""

from collections.abc import Sequence

from ollama_ft.core.catalog import row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.home import Home
from ollama_ft.core.records import Base, Family
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.leaks import Asked, Embed
from ollama_ft.kinds.lengths import limit
from ollama_ft.kinds.rendering import Render
from ollama_ft.kinds.report import Against
from ollama_ft.runtime.store import Store


def against(
    db: Database,
    home: Home,
    family: Family,
    questions: Sequence[Conversation],
    most: int,
    *,
    render: Render,
    embed: Embed | None = None,
) -> Against:
    """Rows of this family may have `most` tokens as `render` (one of its versions) makes them.

    With `embed` rows that mean the same as a question are looked for too.
    """
    from ollama_ft.weights.reader import open_gguf
    from ollama_ft.weights.tokenizer import load_tokenizer

    blob = Store(home.models).blob_path(row(db, Base, family.base).blob_digest)
    with open_gguf(blob) as gguf:
        tokenizer = load_tokenizer(gguf)
    return Against(asked=Asked(questions, embed), limit=limit(render, tokenizer, most))
