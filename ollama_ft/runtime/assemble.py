"""Build a model's manifest ourselves, as Ollama's create would: layers, small blobs and config.

Used where no runtime does it for us: a base that was fetched as a bare GGUF, and the routes that
hand a finished manifest to a runtime.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ollama_ft.core.conversation import Message
from ollama_ft.core.files import digest_bytes
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import CONFIG_TYPE, LAYER_PREFIX, Layer, Manifest, Store, go_json


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What a model has beside its weights."""

    template: str = ""
    system: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    license: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A manifest with its small blobs, by digest. The weights are named by it, not held."""

    manifest: Manifest
    blobs: Mapping[str, bytes]


def assemble(weights: Sequence[tuple[str, str, int]], texts: Texts, details: Details) -> Assembled:
    """Make a manifest of weights, given as (kind, digest, bytes), and texts.

    `kind` is "model" or "adapter". The order is Ollama's own: model, template, adapter, system,
    parameters, messages, licences.
    """
    blobs: dict[str, bytes] = {}

    def small(kind: str, content: bytes) -> Layer:
        digest = digest_bytes(content)
        blobs[digest] = content
        return Layer(media_type=LAYER_PREFIX + kind, digest=digest, size=len(content))

    layers = [
        Layer(media_type=LAYER_PREFIX + kind, digest=digest, size=size)
        for kind, digest, size in weights
    ]
    if texts.template:
        layers.insert(1, small("template", texts.template.encode()))
    layers += [small(kind, content) for kind, content in _written(texts)]
    config = go_json(_config(details))
    digest = digest_bytes(config)
    blobs[digest] = config
    return Assembled(
        manifest=Manifest(
            config=Layer(media_type=CONFIG_TYPE, digest=digest, size=len(config)),
            layers=tuple(layers),
        ),
        blobs=blobs,
    )


def store_assembled(store: Store, name: Name, made: Assembled) -> None:
    """Write the small blobs, then the manifest. The weights must be in the store already."""
    for digest, content in made.blobs.items():
        store.add_blob(content, digest)
    store.write_manifest(name, made.manifest)


def read_texts(store: Store, manifest: Manifest) -> Texts:
    """The texts of a stored model. Raises NotFound for a blob that is not there, BadInput."""
    texts = {
        kind: [store.read_blob(layer.digest).decode() for layer in manifest.of_kind(kind)]
        for kind in ("template", "system", "params", "messages", "license")
    }
    parameters = json.loads(texts["params"][-1]) if texts["params"] else {}
    messages = json.loads(texts["messages"][-1]) if texts["messages"] else []
    return Texts(
        template=texts["template"][-1] if texts["template"] else "",
        system=texts["system"][-1] if texts["system"] else "",
        parameters=parameters,
        messages=tuple(Message(role=m["role"], content=m["content"]) for m in messages),
        license=tuple(texts["license"]),
    )


def gguf_details(path: Path) -> Details:
    """What a config says of a GGUF, read from its header. Raises BadWeights."""
    from ollama_ft.runtime.embedded.facts import human_count, read_facts

    facts = read_facts(path)
    return Details(
        format="gguf",
        family=facts.architecture,
        families=(facts.architecture,),
        parameter_size=human_count(facts.parameters),
        quantization_level=facts.file_type,
    )


def _written(texts: Texts) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    if texts.system:
        found.append(("system", texts.system.encode()))
    if texts.parameters:  # Go writes a map with its keys sorted
        found.append(("params", go_json(dict(sorted(texts.parameters.items())))))
    if texts.messages:
        rows = [{"role": m.role, "content": m.content} for m in texts.messages]
        found.append(("messages", go_json(rows)))
    return found + [("license", text.encode()) for text in texts.license]


def _config(details: Details) -> dict[str, object]:
    return {
        "model_format": details.format,
        "model_family": details.family,
        "model_families": list(details.families),
        "model_type": details.parameter_size,
        "file_type": details.quantization_level,
        "architecture": "amd64",  # constants that Ollama writes on every machine
        "os": "linux",
    }
