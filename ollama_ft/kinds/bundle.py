"""A version as one artefact: what a bundle file and an OCI registry both hold.

    config                      the provenance (kinds/provenance.py)
    adapter.gguf                what is served
    adapter_config.json         the same as PEFT has it …
    adapter_model.safetensors   … for training on, or for other tools
    Modelfile                   readable
    reference.json              what the trained model said, so that it can be proved without torch
    proof.json                  the newest proof where it comes from, every figure
    evaluation.json             its answers to the test questions, scored

The base is not in it: it is named by its digest. The same version gives the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ollama_ft.core.errors import BadInput
from ollama_ft.core.files import digest_bytes, digest_file
from ollama_ft.kinds.probes import Reference
from ollama_ft.kinds.provenance import Provenance, read_provenance
from ollama_ft.runtime.oci.artefact import MOST_MANIFEST_BYTES, TITLE, Artefact, Descriptor
from ollama_ft.runtime.oci.layout import Contents

KIND = "application/vnd.ollama-ft.version.v1"
CONFIG = "application/vnd.ollama-ft.provenance.v1+json"
MOST_PLACES = 256  # where the runtime is asked for a proof; ours have 16
MB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of the artefact: its media type, the most bytes, whether it has to be there."""

    media_type: str
    most: int
    needed: bool = False


PARTS: Mapping[str, Part] = {
    "adapter.gguf": Part(
        media_type="application/vnd.ollama-ft.adapter.v1.gguf", most=8 << 30, needed=True
    ),
    "adapter_config.json": Part(
        media_type="application/vnd.ollama-ft.peft.config.v1+json", most=MB, needed=True
    ),
    "adapter_model.safetensors": Part(
        media_type="application/vnd.ollama-ft.peft.tensors.v1.safetensors",
        most=8 << 30,
        needed=True,
    ),
    "Modelfile": Part(media_type="application/vnd.ollama-ft.modelfile.v1", most=4 * MB),
    "reference.json": Part(
        media_type="application/vnd.ollama-ft.reference.v1+json", most=64 * MB, needed=True
    ),
    "proof.json": Part(media_type="application/vnd.ollama-ft.proof.v1+json", most=64 * MB),
    "evaluation.json": Part(
        media_type="application/vnd.ollama-ft.evaluation.v1+json", most=256 * MB
    ),
}


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A version ready to travel: the manifest, and each blob's content by digest."""

    artefact: Artefact
    contents: Contents


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A version that came from outside, checked: what it says of itself fits what it holds."""

    artefact: Artefact
    provenance: Provenance
    files: Mapping[str, Path]  # title → the file that holds it


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One entry of evaluation.json."""

    question_digest: str
    question: str
    expected: str
    answer: str
    right: bool
    stopped: bool
    scores: dict[str, float]


def pack(provenance: Provenance, files: Mapping[str, bytes | Path]) -> Packed:
    """Make the artefact of these files, by title."""
    config = provenance.content()
    contents: dict[str, bytes | Path] = {digest_bytes(config): config}
    layers = []
    for title in PARTS:
        if title in files:
            layer = _descriptor(title, files[title])
            contents[layer.digest] = files[title]
            layers.append(layer)
    artefact = Artefact(
        kind=KIND,
        config=Descriptor.of(CONFIG, config, "provenance.json"),
        layers=tuple(layers),
        annotations={
            "org.opencontainers.image.created": provenance.version.at,
            "org.opencontainers.image.version": provenance.tag,
            "org.opencontainers.image.base.name": provenance.base.name,
            "org.opencontainers.image.base.digest": provenance.base.blob_digest,
        },
    )
    return Packed(artefact=artefact, contents=contents)


def check_artefact(artefact: Artefact) -> None:
    """Whether the manifest is a version's, before anything large is fetched for it.

    Raises BadInput: of another kind, a part too many, too large, twice or not there.
    """
    if artefact.kind != KIND or artefact.config.media_type != CONFIG:
        raise BadInput(
            f"This is no version of a model, but {artefact.kind or 'something else'!r:.80}.",
            mend="a base or a stock Ollama model is fetched by: ollama-ft base pull …",
        )
    if artefact.config.size > MOST_MANIFEST_BYTES:
        raise BadInput("The artefact's provenance has more than 4 MiB.")
    titles = [layer.title for layer in artefact.layers]
    if len(set(titles)) < len(titles):
        raise BadInput("The artefact holds a file twice.")
    for layer in artefact.layers:
        part = PARTS.get(layer.title)
        if part is None or part.media_type != layer.media_type:
            raise BadInput(f"The artefact holds {layer.title!r:.80}, which is not known here.")
        if layer.size > part.most:
            raise BadInput(f"The artefact's {layer.title} has {layer.size:,} bytes: too many.")
    missing = [title for title, part in PARTS.items() if part.needed and title not in titles]
    if missing:
        raise BadInput(
            f"The artefact lacks {', '.join(missing)}, so it cannot be proved here.",
            mend="export it anew where it was made",
        )


def read_bundle(artefact: Artefact, files: Mapping[str, Path]) -> Bundle:
    """Read a version from its blobs (by digest), and hold it to what it says of itself.

    Raises BadInput for what does not fit together; nothing was written.
    """
    check_artefact(artefact)
    provenance = read_provenance(files[artefact.config.digest].read_bytes())
    by_title = {layer.title: layer.digest for layer in artefact.layers}
    told: dict[str, str | None] = {"proof.json": None, **provenance.named()}
    if "evaluation.json" not in by_title:  # it may be left out
        told.pop("evaluation.json", None)
    for title, digest in told.items():
        if by_title.get(title) != digest:
            raise BadInput(f"The provenance names another {title} than the one that came with it.")
    if digest_bytes(provenance.recipe.text.encode()) != provenance.recipe.digest:
        raise BadInput("The provenance's recipe has another digest than it says.")
    if provenance.made_of() != provenance.version.digest:
        raise BadInput("The version is not made of what its provenance says: its digest differs.")
    found = {title: files[digest] for title, digest in by_title.items()}
    _check_reference(found["reference.json"])
    if "evaluation.json" in found:
        _validated(list[Answer], found["evaluation.json"])
    return Bundle(artefact=artefact, provenance=provenance, files=found)


def _check_reference(path: Path) -> None:
    places = _validated(list[Reference], path)
    if not 1 <= len(places) <= MOST_PLACES:
        raise BadInput(f"The reference has {len(places)} places; 1 to {MOST_PLACES} are asked.")


def _validated(kind: Any, path: Path) -> Any:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"A part of the bundle is not in order: {where}: {first['msg']}.") from error


def _descriptor(title: str, content: bytes | Path) -> Descriptor:
    media_type = PARTS[title].media_type
    if isinstance(content, bytes):
        return Descriptor.of(media_type, content, title)
    return Descriptor(
        media_type=media_type,
        digest=digest_file(content),
        size=content.stat().st_size,
        annotations={TITLE: title},
    )
