"""Manifests and descriptors of the OCI image specification 1.1, read as hostile, printed the same
for the same content.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ollama_ft.core.errors import BadInput
from ollama_ft.core.files import digest_bytes
from ollama_ft.runtime.manifest import checked_digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"
MOST_MANIFEST_BYTES = 4 << 20  # the least that registries must take, and many take no more
MOST_LAYERS = 64


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """One blob: what it is, its digest and its size."""

    media_type: str
    digest: str
    size: int  # bytes
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The file name that it carries; "" without one."""
        return self.annotations.get(TITLE, "")

    def to_json(self) -> dict[str, object]:
        """The descriptor as it stands in a manifest."""
        row: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        return row | ({"annotations": dict(self.annotations)} if self.annotations else {})

    @classmethod
    def of(cls, media_type: str, content: bytes, title: str = "") -> "Descriptor":
        """The descriptor of these bytes."""
        return cls(
            media_type=media_type,
            digest=digest_bytes(content),
            size=len(content),
            annotations={TITLE: title} if title else {},
        )

    @classmethod
    def from_json(cls, row: object) -> "Descriptor":
        """Read a descriptor. Raises BadInput where a field is missing or of another type."""
        if not isinstance(row, Mapping):
            raise BadInput("A descriptor is not a JSON object.")
        media_type, size = row.get("mediaType"), row.get("size")
        if not isinstance(media_type, str) or not isinstance(size, int) or size < 0:
            raise BadInput("A descriptor has no media type or no size.")
        return cls(
            media_type=media_type,
            digest=checked_digest(str(row.get("digest"))),
            size=size,
            annotations=_texts(row.get("annotations")),
        )


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A manifest: the kind of the artefact, its config and its layers in order."""

    kind: str  # artifactType
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob that the manifest needs: the config, then the layers."""
        return (self.config, *self.layers)

    @property
    def size(self) -> int:
        """Bytes of all blobs together."""
        return sum(blob.size for blob in self.blobs)

    @property
    def digest(self) -> str:
        """Of the manifest as `content` prints it."""
        return digest_bytes(self.content())

    def layer(self, media_type: str) -> Descriptor | None:
        """The layer of one media type; None if there is none."""
        return next((layer for layer in self.layers if layer.media_type == media_type), None)

    def annotated(self, changes: Mapping[str, str | None]) -> "Artefact":
        """The same with annotations set, or taken away where the value is None."""
        merged = {**self.annotations, **changes}
        kept = {key: value for key, value in merged.items() if value is not None}
        return replace(self, annotations=kept)

    def content(self) -> bytes:
        """The manifest's bytes: compact JSON, keys sorted, so that its digest is its content's."""
        row = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": self.kind,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
            "annotations": dict(self.annotations),
        }
        return canonical(row)

    @classmethod
    def parse(cls, content: bytes) -> "Artefact":
        """Read a manifest's bytes. Raises BadInput for what is not one of ours in form.

        Its bytes must be those that `content` prints: else what is signed and what is read could
        differ.
        """
        row = read_json(content, "manifest")
        if (form := row.get("mediaType")) != MANIFEST:
            raise BadInput(
                f"This is {form!r:.80}, and no version that was pushed by ollama-ft.",
                mend="a stock Ollama model is a base: ollama-ft base pull …",
            )
        layers = row.get("layers")
        if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
            raise BadInput("A manifest has no list of layers, or too long a one.")
        found = cls(
            kind=str(row.get("artifactType") or ""),
            config=Descriptor.from_json(row.get("config")),
            layers=tuple(Descriptor.from_json(layer) for layer in layers),
            annotations=_texts(row.get("annotations")),
        )
        if found.content() != content:
            raise BadInput("The manifest is not one that ollama-ft wrote, or it was changed.")
        return found


def canonical(value: object) -> bytes:
    """The one way in which a JSON value is written here: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def read_json(content: bytes, what: str) -> dict[str, Any]:
    """A JSON object from outside. Raises BadInput beyond 4 MiB, and for anything else."""
    if len(content) > MOST_MANIFEST_BYTES:
        raise BadInput(f"The {what} has more than 4 MiB.")
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The {what} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise BadInput(f"The {what} is not a JSON object.")
    return row


def _texts(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise BadInput("Annotations are not texts by name.")
    return {str(key): text for key, text in value.items()}
