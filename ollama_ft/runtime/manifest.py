"""What a name stands for in Ollama's layout: a manifest, its config and its layers."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ollama_ft.core.errors import BadInput

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_PREFIX = "application/vnd.ollama.image."
_HEX_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One blob of a model. `source` says where it came from: a model's short name or an upload's
    file name."""

    media_type: str
    digest: str
    size: int  # bytes
    source: str = ""
    name: str = ""  # only tensor layers have one

    @property
    def kind(self) -> str:
        """The end of Ollama's media types: model, adapter, template, system, params, messages,
        license…"""
        return self.media_type.removeprefix(LAYER_PREFIX)

    def to_json(self) -> dict[str, object]:
        """The layer as it stands in a manifest."""
        row: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        row |= {"from": self.source} if self.source else {}
        row |= {"name": self.name} if self.name else {}
        return row

    @classmethod
    def from_json(cls, row: object) -> "Layer":
        """Read a layer from a manifest. Raises BadInput where a field is missing or of another
        type."""
        if not isinstance(row, Mapping):
            raise BadInput("A manifest's layer is not a JSON object.")
        media_type, digest, size = row.get("mediaType"), row.get("digest"), row.get("size")
        if not isinstance(media_type, str) or not isinstance(size, int) or size < 0:
            raise BadInput("A manifest's layer has no media type or no size.")
        return cls(
            media_type=media_type,
            digest=checked_digest(str(digest)),
            size=size,
            source=str(row.get("from") or ""),
            name=str(row.get("name") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a name stands for: a config blob and the layers in order; unknown types are kept."""

    config: Layer
    layers: tuple[Layer, ...]
    media_type: str = MANIFEST_TYPE

    @property
    def size(self) -> int:
        """Bytes of all blobs together, the config included, as Ollama counts a model's size."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def digests(self) -> tuple[str, ...]:
        """Every blob that the manifest needs."""
        return (self.config.digest, *(layer.digest for layer in self.layers))

    def of_kind(self, kind: str) -> tuple[Layer, ...]:
        """The layers of one kind (`adapter`, `license`, …) in their order."""
        return tuple(layer for layer in self.layers if layer.kind == kind)

    def content(self) -> bytes:
        """The manifest as Ollama writes it: compact, with a newline at the end."""
        row = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        return go_json(row)

    @classmethod
    def parse(cls, content: bytes) -> "Manifest":
        """Read a manifest's bytes. Raises BadInput for what is not one."""
        try:
            row = json.loads(content)
        except ValueError as error:
            raise BadInput(f"A manifest is not JSON: {error}.") from error
        if not isinstance(row, dict) or not isinstance(row.get("layers"), list):
            raise BadInput("A manifest has no list of layers.")
        return cls(
            config=Layer.from_json(row.get("config")),
            layers=tuple(Layer.from_json(layer) for layer in row["layers"]),
            media_type=str(row.get("mediaType") or MANIFEST_TYPE),
        )


def is_digest(text: str) -> bool:
    """Whether the text is `sha256:` and 64 lower-case hex digits."""
    return _HEX_DIGEST.fullmatch(text) is not None


def checked_digest(digest: str) -> str:
    """The digest itself. Raises BadInput unless it is `sha256:` and 64 lower-case hex digits."""
    if not is_digest(digest):
        raise BadInput(f"{digest!r} is not a digest: it must be sha256: and 64 hex digits.")
    return digest


def go_json(value: object) -> bytes:
    """JSON as Go's encoder writes it: compact, `<`, `>`, `&` escaped, and a newline at the end.

    Ollama hashes blobs in this form, so the same content gets the same digest here.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "surrogatepass") + b"\n"
