"""The embedding model: brought to the runtime, asked for vectors, and its tokens counted.

It is used under its pinned name, as bases are, so that vectors stored today and those of a question
asked in a year come from the same weights.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ollama_ft.core.errors import FtError, RuntimeRefused, Unsupported
from ollama_ft.core.home import Home
from ollama_ft.core.words import folded
from ollama_ft.kinds.base_texts import KnownBase
from ollama_ft.kinds.chunking import Count
from ollama_ft.runtime.client import Ollama, Watch
from ollama_ft.runtime.publish import ensure_base, pinned_name
from ollama_ft.runtime.store import Store


@dataclass(frozen=True, kw_only=True)
class Model:
    """An embedding model at a runtime."""

    name: str  # the pinned name
    digest: str  # of its GGUF
    dimensions: int


def bring(home: Home, client: Ollama, base: KnownBase, on_progress: Watch | None = None) -> Model:
    """Make the runtime hold the embedding model, pinned.

    A runtime that has it keeps its own; else it is fetched into our store, as a base is.

    Raises NotFound with each source's reason, RuntimeUnavailable, Unsupported for a model that
    only writes.
    """
    name, digest = _present(client, base) or _fetched(home, client, base, on_progress)
    try:
        (vector,) = client.embed(name, ["?"])
    except RuntimeRefused as error:
        raise Unsupported(
            f"{base.name} gives no embeddings ({error}).",
            mend="name an embedding model: --embedder all-minilm:22m",
        ) from error
    return Model(name=name, digest=digest, dimensions=len(vector))


def _present(client: Ollama, base: KnownBase) -> tuple[str, str] | None:
    for name in dict.fromkeys((base.asked, base.name)):
        shown = client.find(name)
        if shown is not None and shown.base_blob:
            pinned = pinned_name(shown.base_blob)
            if client.find(pinned) is None:
                client.copy(name, pinned)
            return pinned, shown.base_blob
    return None


def _fetched(
    home: Home, client: Ollama, base: KnownBase, on_progress: Watch | None
) -> tuple[str, str]:
    from ollama_ft.kinds.bases import fetch_base

    found = fetch_base(base, Store(home.models), client, on_progress=on_progress)
    ensure_base(
        client,
        found.pinned,
        base_blob=found.blob,
        blob_path=found.path,
        known_as=found.name,
        on_progress=on_progress,
    )
    return found.pinned, found.blob


def vectors(client: Ollama, name: str, dimensions: int, texts: Sequence[str]) -> list[bytes]:
    """The texts' embeddings as they are stored: float16, little-endian, length one.

    Raises RuntimeRefused if the model gives vectors of another size than it did.
    """
    import numpy as np

    found = np.asarray(client.embed(name, texts), np.float32)  # (texts, dimensions)
    if found.shape != (len(texts), dimensions) or not np.isfinite(found).all():
        raise RuntimeRefused(
            f"{name} gave vectors {found.shape}, where ({len(texts)}, {dimensions}) are expected."
        )
    return [row.astype("<f2").tobytes() for row in found]


def counter(home: Home, digest: str) -> Count:
    """How tokens are counted for the model with this GGUF: by its own vocabulary if that is in our
    store and WordPiece, else by `estimate`."""
    from ollama_ft.weights.reader import open_gguf

    path = Store(home.models).blob_path(digest) if digest else None
    if path is None or not path.is_file():
        return estimate
    try:
        from ollama_ft.weights.wordpiece import wordpiece_counter

        with open_gguf(path) as gguf:
            return wordpiece_counter(gguf)
    except (FtError, ImportError):
        return estimate


_PIECE = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_LETTERS = 4  # that a token of a Latin word has at least, on average (BERT, English: 4.3)


def estimate(text: str) -> int:
    """About how many tokens a text has: one for each Chinese character or sign, else one for four
    letters or two digits begun."""
    total = 2
    for piece in _PIECE.findall(folded(text)):
        if piece[0] > "\u0e00":
            total += len(piece)
        else:
            total += math.ceil(len(piece) / (2 if piece.isdigit() else _LETTERS))
    return total
