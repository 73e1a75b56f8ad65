"""A base: an Ollama model fetched into our store, and pinned by digest at the runtime.

Reads:  bases
Writes: bases
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, every, newest
from ollama_ft.core.errors import Conflict
from ollama_ft.core.events import Count, Emit, Note
from ollama_ft.core.home import Home
from ollama_ft.core.records import Base
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.base_texts import KnownBase, Model, Source, find_base, load_bases
from ollama_ft.runtime.names import Name, file_stem, is_file

if TYPE_CHECKING:
    from ollama_ft.kinds.bases import FetchedBase
    from ollama_ft.runtime.answers import Progress
    from ollama_ft.runtime.assemble import Texts
    from ollama_ft.runtime.client import Ollama
    from ollama_ft.runtime.store import Store


def pin(
    db: Database,
    home: Home,
    client: "Ollama",
    name: str,
    emit: Emit,
    *,
    insecure: bool = False,
    anew: bool = False,
    expected: str | None = None,
) -> tuple[Base, "Texts"]:
    """Fetch the base `name` (an Ollama name, or a GGUF's path) and keep it under a name of its own.

    Returns its row and the texts that come with it: template, system, parameters, licence. Where a
    digest is `expected`, no source with another GGUF is taken.

    Raises NotFound with each source's reason, BadWeights or Unsupported for what cannot be
    taught, RuntimeUnavailable if the runtime is too old for the
    base's architecture, Conflict if the name stands for other weights than it did when it was
    pinned. No row is written then. `anew` asks the sources again for a name that is in our store,
    and takes what they have now.
    """
    from ollama_ft.kinds.bases import fetch_base
    from ollama_ft.runtime.store import Store

    known = known_base(home, name)
    if expected:
        known = known.expecting(expected)
    store = Store(home.models)
    with _forgotten(store, Name.parse(known.name)) if anew else nullcontext():
        fetched = fetch_base(known, store, client, insecure=insecure, on_progress=counter(emit))
    if expected and fetched.blob != expected:
        raise Conflict(
            f"{name} has the GGUF {fetched.blob[:19]}, and {expected[:19]} is needed.",
            mend="bring that one yourself: --base FILE.gguf",
        )
    if not anew:
        _check_unmoved(db, fetched.name, fetched.blob)
    return _kept(db, client, known, fetched, emit), fetched.texts


def discard_damaged(db: Database, home: Home, name: str, emit: Emit) -> None:
    """Remove the blobs of a base in our store that are not what their digests say, so that they
    are fetched again. Every byte is read.
    """
    from ollama_ft.core.files import digest_file
    from ollama_ft.runtime.store import Store

    store = Store(home.models)
    stored = Name.parse(known_base(home, name).name)
    digests = set(store.read(stored).manifest.digests) if store.find(stored) else set()
    digests |= {base.blob_digest for base in every(db, Base) if base.name == stored.short}
    for digest in sorted(digests):
        path = store.blob_path(digest)
        if path.is_file() and digest_file(path) != digest:
            path.unlink()
            emit(Note(text=f"{digest[:19]} was damaged, and is fetched again"))


def pin_blob(db: Database, home: Home, client: "Ollama", name: str, blob: str, emit: Emit) -> Base:
    """Pin a GGUF that lies in our store already, by its digest; return its row.

    It is listed as `name` unless that stands for other weights here; then under its pinned name.
    Raises as `pin` does.
    """
    from ollama_ft.kinds.bases import Wish, described, import_gguf
    from ollama_ft.runtime.store import Store

    store = Store(home.models)
    known = known_base(home, _free_name(db, store, name, blob))
    stored = Name.parse(known.name)
    if store.find(stored) is None:
        import_gguf(Wish(base=known, source=Source(kind="file"), store=store, client=client), blob)
    fetched = described(store, stored, "its digest")
    _check_unmoved(db, fetched.name, fetched.blob)
    return _kept(db, client, known, fetched, emit)


def _free_name(db: Database, store: "Store", name: str, blob: str) -> str:
    from ollama_ft.runtime.publish import pinned_name

    listed = newest(db, Base, name=name)
    found = store.find(Name.parse(name))
    weights = store.read(found).manifest.of_kind("model") if found else ()
    stands_for = {layer.digest for layer in weights[-1:]}
    stands_for |= {listed.blob_digest} if listed else set()
    return name if stands_for <= {blob} else pinned_name(blob)


def _kept(
    db: Database, client: "Ollama", known: KnownBase, fetched: "FetchedBase", emit: Emit
) -> Base:
    """Make sure that what was fetched can be taught, pin it at the runtime, and write its row."""
    from ollama_ft.kinds.bases import check_weights
    from ollama_ft.runtime.probe import check_floor, probe
    from ollama_ft.runtime.publish import ensure_base

    check_weights(fetched.path)
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
    return found or append(db, row)


def known_base(home: Home, name: str) -> KnownBase:
    """What registry/bases says of the name; a path to a GGUF is a base of its own."""
    texts = load_bases(home.texts("bases"))
    if not is_file(name):
        return find_base(name, texts)
    named = find_base(Name.parse(file_stem(name)).short, {})
    model = Model(sources=(Source(kind="file", path=name),))
    return named.model_copy(update={"model": model})


def default_recipe(home: Home, name: str) -> str:
    """The recipe that registry/bases names for this base."""
    return known_base(home, name).text.recipe


def pinned_base(db: Database, name: str) -> Base | None:
    """The base that was last pinned under this name, in any of its spellings."""
    wanted = Name.parse(name).lower()
    return next((base for base in every(db, Base) if Name.parse(base.name).lower() == wanted), None)


def known_bases(home: Home) -> list[str]:
    """The names that registry/bases lists."""
    return sorted(n for text in load_bases(home.texts("bases")).values() for n in text.models)


@contextmanager
def _forgotten(store: "Store", name: Name) -> Iterator[None]:
    """Without the name in our store, so that it is fetched again; it is back if that fails."""
    found = store.find(name)
    content = store.manifest_path(found).read_bytes() if found else b""
    if found:
        store.delete_manifest(found)
    try:
        yield
    except BaseException:
        if found and store.find(name) is None:
            store.write_manifest(found, content)
        raise


def _check_unmoved(db: Database, name: str, blob: str) -> None:
    earlier = newest(db, Base, name=name)
    if earlier is not None and earlier.blob_digest != blob:
        raise Conflict(
            f"{name} stood for {earlier.blob_digest[:19]}… when it was pinned, and stands for "
            f"{blob[:19]}… now.",
            mend=f"ollama-ft rebase, to train a family on the new one; or keep the old one: "
            f"ollama-ft new --from {earlier.pinned}",
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
