"""/api/create and /api/blobs: models made from a stored one or from uploaded GGUFs."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace

from ollama_ft.core.errors import BadInput, NotFound, OutOfResources, RuntimeRefused
from ollama_ft.runtime.embedded.asks import Json, objects, optional, parsed_name, texts, value
from ollama_ft.runtime.embedded.facts import Facts, human_count
from ollama_ft.runtime.embedded.library import Library, Model
from ollama_ft.runtime.embedded.prompt import recognised, written_style
from ollama_ft.runtime.embedded.registry import pull
from ollama_ft.runtime.embedded.uploads import facts_of, ggufs, is_safetensors, parsed, peft_layer
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import (
    CONFIG_TYPE,
    LAYER_PREFIX,
    Layer,
    Manifest,
    Store,
    checked_digest,
    go_json,
)

Lines = AsyncGenerator[Json, None]

_INHERITED = ("renderer", "parser", "requires", "model_format", "capabilities")


@dataclass(frozen=True, kw_only=True)
class CreateAsk:
    """A request to /api/create."""

    name: Name
    source: str = ""  # the model to start from
    files: Mapping[str, str] | None = None  # file name -> digest; None: not given
    adapters: Mapping[str, str] | None = None
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Json = field(default_factory=dict)
    messages: tuple[Json, ...] = ()
    quantize: str = ""
    config: Json = field(default_factory=dict)  # renderer, parser, requires


@dataclass(kw_only=True)
class _Draft:
    """A manifest in the making. `said` are the layers that the progress has named already."""

    layers: list[Layer] = field(default_factory=list)
    config: dict[str, object] = field(default_factory=dict)
    parameters: dict[str, object] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)

    def drop(self, kind: str) -> None:
        """Take the layers of a kind away."""
        self.layers = [layer for layer in self.layers if layer.kind != kind]


def create_ask(body: Json) -> CreateAsk:
    """Read a request. Raises RuntimeRefused (400) in Ollama's words."""
    name = parsed_name(value(body, "model", str, "") or value(body, "name", str, ""))
    ask = CreateAsk(
        name=name,
        source=value(body, "from", str, ""),
        files=None if body.get("files") is None else texts(body, "files"),
        adapters=None if body.get("adapters") is None else texts(body, "adapters"),
        template=value(body, "template", str, ""),
        system=value(body, "system", str, ""),
        licenses=_licenses(body.get("license")),
        parameters=value(body, "parameters", dict, {}),
        messages=objects(body, "messages"),
        quantize=value(body, "quantize", str, "") or value(body, "quantization", str, ""),
        config={
            key: body[key] for key in ("renderer", "parser", "requires") if optional(body, key, str)
        },
    )
    if "" in (*(ask.files or {}).values(), *(ask.adapters or {}).values()):
        raise RuntimeRefused("invalid digest format", status=400)
    return ask


async def create(library: Library, ask: CreateAsk, keep_blobs: bool) -> Lines:
    """Make the model, and say each step. Raises RuntimeRefused where Ollama refuses; then nothing
    has changed."""
    draft = _Draft()
    store = library.store
    try:
        _check_digests(ask)
        if ask.template:
            written_style(ask.template)
        async for line in _parts(library, ask, draft):
            yield line
        for line in await asyncio.to_thread(_own_layers, store, ask, draft):
            yield line
        yield {"status": "writing manifest"}
        await asyncio.to_thread(_publish, store, ask.name, draft, keep_blobs)
    except OutOfResources as error:
        raise RuntimeRefused(str(error), status=507) from error
    yield {"status": "success"}


# Where the layers come from


async def _parts(library: Library, ask: CreateAsk, draft: _Draft) -> Lines:
    if ask.source:
        async for line in _from_model(library, ask, draft):
            yield line
    elif ask.files is not None:
        async for line in _from_files(library.store, ask.files, draft):
            yield line
    else:
        raise RuntimeRefused("neither 'from' or 'files' was specified", status=400)
    if ask.adapters is not None:
        async for line in _adapters(library.store, ask.adapters, draft):
            yield line
    if ask.quantize:
        raise _no_quantising(draft)


def _no_quantising(draft: _Draft) -> RuntimeRefused:
    if draft.config.get("file_type") in ("F16", "BF16", "F32"):
        return RuntimeRefused("the embedded runtime does not quantize", status=500)
    return RuntimeRefused("quantization is only supported for F16, BF16 and F32 models", status=500)


async def _from_model(library: Library, ask: CreateAsk, draft: _Draft) -> Lines:
    source = parsed_name(ask.source)
    model = library.find(source.full)
    if model is None:
        async for line in pull(library.store, source, insecure=False):
            if line != {"status": "success"}:
                yield line
        model = library.find(source.full)
        assert model is not None, "pull has written it, or raised"
    _inherit(model, draft)


def _inherit(model: Model, draft: _Draft) -> None:
    """All layers of the base, marked with its name; its config; its parameters, to be merged."""
    draft.layers = [
        replace(layer, source=model.name.short)
        for layer in model.manifest.layers
        if layer.kind != "params"
    ]
    draft.config = {key: model.config[key] for key in _INHERITED if model.config.get(key)}
    for path in [model.store.blob_path(layer.digest) for layer in model.manifest.of_kind("model")]:
        _describe(facts_of(path, 500), draft)
    draft.parameters = dict(model.parameters)


async def _from_files(store: Store, files: Mapping[str, str], draft: _Draft) -> Lines:
    taken = []
    for name, digest in ggufs(store, files):
        yield {"status": "parsing GGUF"}
        layer, facts = await asyncio.to_thread(parsed, store, name, digest, 500)
        taken.append((layer, facts))
        draft.layers.append(layer)
    if all(layer.kind == "adapter" for layer, _ in taken):
        raise RuntimeRefused("no model was found in the files", status=400)
    for layer, _ in taken:
        yield _said(draft, layer)
    for layer, facts in taken:
        if layer.kind == "model":
            for line in await asyncio.to_thread(_describe_model, store, draft, facts):
                yield line


async def _adapters(store: Store, files: Mapping[str, str], draft: _Draft) -> Lines:
    if any(is_safetensors(name) for name in files):
        yield {"status": "converting adapter"}
        base = [layer for layer in draft.layers if layer.kind == "model"][-1]
        path = store.blob_path(base.digest)
        layer, is_new = await asyncio.to_thread(peft_layer, store, files, path)
        draft.layers.append(layer)
        draft.fresh |= {layer.digest} if is_new else set()
        return
    if len(files) > 1:
        raise RuntimeRefused("only one adapter is currently supported", status=400)
    for name, digest in ggufs(store, files):
        yield {"status": "parsing GGUF"}
        layer, facts = await asyncio.to_thread(parsed, store, name, digest, 400)
        draft.layers.append(layer)
        if layer.kind == "model":  # as Ollama does: it becomes a second model
            await asyncio.to_thread(_describe_model, store, draft, facts)


def _describe_model(store: Store, draft: _Draft, facts: Facts) -> list[Json]:
    """A model sets the config, and brings the template and parameters that Ollama knows for it."""
    _describe(facts, draft)
    known = recognised(facts)
    if known is None:
        return []
    template = _add(store, draft, "template", known.template.encode())
    draft.said.add(template.digest)
    draft.parameters |= known.parameters
    return [{"status": f"using autodetected template {known.name}"}]


def _describe(facts: Facts, draft: _Draft) -> None:
    families = draft.config.get("model_families")
    known = list(families) if isinstance(families, list) else []
    draft.config |= {
        "model_format": "gguf",
        "model_family": facts.architecture,
        "model_families": [*known, facts.architecture],
        "model_type": human_count(facts.parameters),
        "file_type": facts.file_type,
    }


# What the request adds, and the end


def _own_layers(store: Store, ask: CreateAsk, draft: _Draft) -> list[Json]:
    if ask.template:
        draft.drop("template")
        _add(store, draft, "template", ask.template.encode())
    if ask.system:
        draft.drop("system")
        _add(store, draft, "system", ask.system.encode())
    for text in ask.licenses:
        _add(store, draft, "license", text.encode())
    draft.parameters |= {key: item for key, item in ask.parameters.items() if item is not None}
    if draft.parameters:
        _add(store, draft, "params", go_json(dict(sorted(draft.parameters.items()))))
    if ask.messages:
        draft.drop("messages")
        _add(store, draft, "messages", go_json(list(ask.messages)))
    draft.config |= ask.config
    return [_said(draft, layer) for layer in draft.layers if layer.digest not in draft.said]


def _publish(store: Store, name: Name, draft: _Draft, keep_blobs: bool) -> None:
    config = _config_layer(store, draft)
    manifest = Manifest(config=config, layers=tuple(draft.layers))
    target = store.spelled(name)
    old = _old_manifest(store, target)
    store.write_manifest(target, manifest)
    if old is not None and not keep_blobs:
        store.prune(only=old.digests, older_than=0)


def _config_layer(store: Store, draft: _Draft) -> Layer:
    order = ("model_format", "model_family", "model_families", "model_type", "file_type")
    fixed = {"architecture": "amd64", "os": "linux"}  # constants of Ollama, whatever the machine
    rest = {key: item for key, item in draft.config.items() if key not in order}
    content = go_json({key: draft.config.get(key, "") for key in order} | rest | fixed)
    return Layer(media_type=CONFIG_TYPE, digest=store.add_blob(content), size=len(content))


def _old_manifest(store: Store, name: Name) -> Manifest | None:
    try:
        return store.read_manifest(name)
    except (NotFound, BadInput):
        return None


def _add(store: Store, draft: _Draft, kind: str, content: bytes) -> Layer:
    existing = set(draft.fresh)
    digest, is_new = store.put(content)
    layer = Layer(media_type=LAYER_PREFIX + kind, digest=digest, size=len(content))
    if is_new and digest not in existing:
        draft.fresh.add(digest)
    draft.layers.append(layer)
    return layer


def _said(draft: _Draft, layer: Layer) -> Json:
    draft.said.add(layer.digest)
    verb = "creating new" if layer.digest in draft.fresh else "using existing"
    return {"status": f"{verb} layer {layer.digest}"}


# Checks


def _check_digests(ask: CreateAsk) -> None:
    for digest in (*(ask.files or {}).values(), *(ask.adapters or {}).values()):
        try:
            checked_digest(digest)
        except BadInput as error:
            raise RuntimeRefused("invalid digest format", status=400) from error


def _licenses(found: object) -> tuple[str, ...]:
    if isinstance(found, str):
        return (found,) if found else ()
    if isinstance(found, list) and all(isinstance(text, str) for text in found):
        return tuple(found)
    return ()


def refuse(store: Store, ask: CreateAsk, kinds: frozenset[str]) -> None:
    """Behave like a version that no longer takes adapters by this route; see `--refuse`.

    Raises RuntimeRefused (400).
    """
    if "adapters" in kinds and ask.adapters:
        raise RuntimeRefused("adapters are no longer supported", status=400)
    if "files" in kinds and ask.files:
        paths = [store.blob_path(digest) for digest in ask.files.values()]
        if any(path.is_file() and facts_of(path, 500).kind == "adapter" for path in paths):
            raise RuntimeRefused("adapters in files are no longer supported", status=400)
