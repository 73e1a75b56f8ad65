"""A base: an Ollama model fetched into our store, and pinned by digest at the runtime.

Reads:  bases
Writes: bases
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, newest
from ollama_ft.core.errors import Conflict
from ollama_ft.core.events import Count, Emit, Note
from ollama_ft.core.home import Home
from ollama_ft.core.records import Base
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.base_texts import KnownBase, Model, Source, find_base, load_bases
from ollama_ft.runtime.names import Name

if TYPE_CHECKING:
    from ollama_ft.runtime.answers import Progress
    from ollama_ft.runtime.assemble import Texts
    from ollama_ft.runtime.client import Ollama


def pin(db: Database, home: Home, client: "Ollama", name: str, emit: Emit) -> tuple[Base, "Texts"]:
    """Fetch the base `name` (an Ollama name, or a GGUF's path) and keep it under a name of its own.

    Returns its row and the texts that come with it: template, system, parameters, licence.

    Raises NotFound with each source's reason, BadWeights or Unsupported for what cannot be
    taught, RuntimeUnavailable if the runtime is too old for the
    base's architecture, Conflict if the name stands for other weights than it did when it was
    pinned. No row is written then.
    """
    from ollama_ft.kinds.bases import check_weights, fetch_base
    from ollama_ft.runtime.probe import check_floor, probe
    from ollama_ft.runtime.publish import ensure_base
    from ollama_ft.runtime.store import Store

    known = known_base(home, name)
    fetched = fetch_base(known, Store(home.models), client, on_progress=counter(emit))
    check_weights(fetched.path)
    _check_unmoved(db, fetched.name, fetched.blob)
    check_floor(probe(client), fetched.architecture)
    ensure_base(
        client,
        fetched.pinned,
        base_blob=fetched.blob,
        blob_path=fetched.path,
        known_as=fetched.name,
        template=fetched.texts.template,
    )
    for quirk in known.text.quirks:
        emit(Note(text=quirk))
    row = Base(
        name=fetched.name,
        pinned=fetched.pinned,
        blob_digest=fetched.blob,
        manifest_digest=f"sha256:{fetched.manifest_digest}",
        size=fetched.size,
        architecture=fetched.architecture,
        parameter_size=fetched.details.parameter_size,
        quantization=fetched.details.quantization_level,
        licence=known.text.licence or " ".join(fetched.texts.license)[:60],
        source_json=json.dumps({"from": fetched.source}),
    )
    found = newest(db, Base, name=row.name, blob_digest=row.blob_digest)
    return found or append(db, row), fetched.texts


def known_base(home: Home, name: str) -> KnownBase:
    """What registry/bases says of the name; a path to a GGUF is a base of its own."""
    texts = load_bases(home.texts("bases"))
    if not name.endswith(".gguf"):
        return find_base(name, texts)
    stem = name.rsplit("/", 1)[-1].removesuffix(".gguf").lower()
    named = find_base(Name.parse(stem).short, {})
    model = Model(sources=(Source(kind="file", path=name),))
    return named.model_copy(update={"model": model})


def default_recipe(home: Home, name: str) -> str:
    """The recipe that registry/bases names for this base."""
    return known_base(home, name).text.recipe


def known_bases(home: Home) -> list[str]:
    """The names that registry/bases lists."""
    return sorted(n for text in load_bases(home.texts("bases")).values() for n in text.models)


def _check_unmoved(db: Database, name: str, blob: str) -> None:
    earlier = newest(db, Base, name=name)
    if earlier is not None and earlier.blob_digest != blob:
        raise Conflict(
            f"{name} stood for {earlier.blob_digest[:19]}… when it was pinned, and stands for "
            f"{blob[:19]}… now.",
            mend=f"keep the old one: --from {earlier.pinned}, or name the new one otherwise",
        )


def counter(emit: Emit) -> "Callable[[Progress], None]":
    """What tells of each piece of a download."""

    def count(progress: "Progress") -> None:
        if progress.total:
            emit(
                Count(
                    name=progress.status,
                    done=progress.completed,
                    total=progress.total,
                    unit="B",
                )
            )

    return count
