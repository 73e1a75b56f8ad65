"""Documents put on the shelf, and questions asked with what they hold."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ollama_ft.core.catalog import newest
from ollama_ft.core.errors import NotFound, RuntimeUnavailable, Unsupported
from ollama_ft.core.events import Emit, Note, Stage
from ollama_ft.core.home import Home
from ollama_ft.core.records import Version
from ollama_ft.core.settings import DEFAULTS
from ollama_ft.core.shelf_records import Embedder
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.context import Passage, with_context
from ollama_ft.runtime.answers import Answer
from ollama_ft.runtime.client import Ollama, user_message
from ollama_ft.stages import knowledge
from ollama_ft.stages import publish as publishing
from ollama_ft.stages.base import counter, known_base
from ollama_ft.workshop import Workshop


def learn(
    db: Database,
    home: Home,
    client: Ollama | None,
    emit: Emit,
    paths: Sequence[Path],
    family: str,
    embedder: str = "",
) -> tuple[knowledge.Added, int]:
    """Put documents on the shelf and embed them; return what was added, and how many chunks have
    a new vector. Without a client, or an embedding model, their words alone are found.

    Raises NotFound, Unsupported or BadInput for paths that cannot be read.
    """
    knowledge.meant(db, paths, family)  # before a model is fetched for it
    row = _embedder(db, home, client, emit, embedder) if client else None
    emit(Stage(name="read", text=", ".join(path.name for path in paths)))
    added = knowledge.add(db, home, paths, emit, family=family, embedder=row)
    return added, knowledge.embed(db, client, row, emit) if client and row else 0


def _embedder(db: Database, home: Home, client: Ollama, emit: Emit, asked: str) -> Embedder | None:
    """The model to embed by: the one that was asked for, else the shelf's while it is at hand."""
    from ollama_ft.kinds.embedding import bring

    last = newest(db, Embedder)
    known = known_base(home, asked or DEFAULTS["embedder"])
    try:
        if last and not asked and client.find(last.name):
            return last
        emit(Stage(name="embedder", text=f"bringing {known.name} to {client.address}"))
        model = bring(home, client, known, counter(emit))
    except (NotFound, RuntimeUnavailable, Unsupported, ImportError) as error:
        emit(Note(text=f"no embedding model: words alone will be found. {error}"))
        return None
    if last and last.digest != model.digest:
        emit(Note(text=f"{known.name} takes another's place: every passage is embedded anew"))
    return knowledge.register(db, model)


def ask(
    shop: Workshop, version: Version, question: str, k: int, on_text: Callable[[str], None] | None
) -> tuple[Answer, list[Passage]]:
    """Ask a version a question with what its family's documents hold about it.

    Raises NotFound if they hold nothing at all.
    """
    from ollama_ft.serve.knowledge import retrieve

    found = retrieve(shop.db, shop.home, shop.client, version.family, question, k, emit=shop.emit)
    if not found:
        raise NotFound(
            f"No document of {version.family}'s says anything about it.",
            mend="ollama-ft knowledge add FILE",
        )
    publishing.bring(shop.db, shop.home, shop.client, version)
    messages = with_context(user_message(question), found)
    return shop.client.chat(version.tag, messages, on_text=on_text, think=False), found
