"""How a version reaches a runtime: one function behind each name, in the order of trying.

adapters   /api/create with `from` and `adapters`: Ollama 0.5.5 to 0.34.0 for sure
files      /api/create with the base's and the adapter's GGUF as `files`
registry   /api/pull from a registry of our own on this machine, then /api/copy
store      blobs and manifest written where the runtime keeps them
merged     /api/create with one GGUF that has the adapter built in: as large as a base, and packed
           again, which costs precision; so it comes last
"""

import os
from dataclasses import replace
from pathlib import Path

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.core.plugins import Register, hookimpl
from ollama_ft.runtime.answers import Shown
from ollama_ft.runtime.assemble import Assembled, Texts, assemble, store_assembled
from ollama_ft.runtime.client import Ollama, Watch
from ollama_ft.runtime.loopback import hand_over
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.publish import PublishSpec
from ollama_ft.runtime.store import Store


@hookimpl
def register_routes(register: Register) -> None:
    """Bring in the built-in routes."""
    register("adapters", by_adapters)
    register("files", by_files)
    register("registry", by_registry)
    register("store", by_store)
    register("merged", by_merged)


def by_adapters(client: Ollama, spec: PublishSpec, on_progress: Watch | None) -> None:
    """Make the version from the pinned base and an adapter."""
    _base(client, spec)
    client.create(
        spec.tag,
        base=spec.base_name,
        adapters=_upload_adapter(client, spec, on_progress),
        system=spec.system,
        template=spec.template,
        parameters=spec.parameters,
        messages=spec.messages,
        on_progress=on_progress,  # the licence is the base's: sent again, it would be doubled
    )


def by_files(client: Ollama, spec: PublishSpec, on_progress: Watch | None) -> None:
    """Make the version from two GGUF files, which the runtime tells apart by their own words."""
    client.upload_blob(spec.base_blob, spec.base_path, on_progress)
    client.create(
        spec.tag,
        files={"base.gguf": spec.base_blob} | _upload_adapter(client, spec, on_progress),
        system=spec.system,
        template=spec.template,
        parameters=spec.parameters,
        messages=spec.messages,
        license=spec.license,
        on_progress=on_progress,
    )


def by_registry(client: Ollama, spec: PublishSpec, on_progress: Watch | None) -> None:
    """Let the runtime pull the version from us. What it has already is not sent again."""
    made = _assembled(client, spec)
    hand_over(client, spec.tag, made.manifest, {**made.blobs, **_files(spec)}, on_progress)


def by_store(client: Ollama, spec: PublishSpec, on_progress: Watch | None) -> None:
    """Write blobs and manifest where the runtime keeps them. It looks there at each request."""
    base = _base(client, spec)
    store = Store(Path(base.base_path).parent.parent)
    if not all(os.access(folder, os.W_OK) for folder in (store.blobs, store.manifests)):
        raise RuntimeRefused(f"{store.root} cannot be written from here.")
    made = _assembled(client, spec)
    try:
        for digest, path in _files(spec).items():
            if not store.has_blob(digest):
                store.add_blob(path, digest)
        store_assembled(store, Name.parse(spec.tag), made)
    except OSError as error:
        raise RuntimeRefused(f"{store.root} cannot be written ({error.strerror}).") from error


def by_merged(client: Ollama, spec: PublishSpec, on_progress: Watch | None) -> PublishSpec:
    """Make the version from one GGUF in which the adapter is built in; return the spec of that.

    A runtime that rewrites what is uploaded is made to pull it.
    """
    if spec.merge is None:
        raise RuntimeRefused("nothing is there to be merged.")
    blob, path = spec.merge()
    whole = replace(spec, base_blob=blob, base_path=path, adapter_blob=None, adapter_path=None)
    by_files(client, whole, on_progress)
    made = client.show(spec.tag)
    if made.layers != whole.layers:
        client.delete(spec.tag)
        rebuilt = assemble(
            [("model", blob, path.stat().st_size)], _texts(whole, made), made.details
        )
        hand_over(client, spec.tag, rebuilt.manifest, {**rebuilt.blobs, blob: path}, on_progress)
    return whole


def _base(client: Ollama, spec: PublishSpec) -> Shown:
    """The pinned base, as pristine as it was. Raises RuntimeRefused if it is not."""
    base = client.find(spec.base_name)
    if base is None:
        # Asked to make something from a name it lacks, Ollama would go and pull it.
        raise RuntimeRefused(f"{spec.base_name} is not at the runtime.", status=404)
    if base.layers != (spec.base_blob,):
        raise RuntimeRefused(f"{spec.base_name} is no longer the base of this version.")
    return base


def _assembled(client: Ollama, spec: PublishSpec) -> Assembled:
    """The version's manifest, made by ourselves; what the spec leaves open is the base's."""
    base = _base(client, spec)
    kinds = zip(("model", "adapter"), _files(spec).items(), strict=False)
    weights = [(kind, digest, path.stat().st_size) for kind, (digest, path) in kinds]
    return assemble(weights, _texts(spec, base), base.details)


def _texts(spec: PublishSpec, like: Shown) -> Texts:
    """The version's texts; what the spec leaves open is as in `like`."""
    return Texts(
        template=spec.template or like.go_template,
        system=spec.system,
        parameters={**like.parameters, **spec.parameters},
        messages=spec.messages,
        license=spec.license or ((like.license,) if like.license else ()),
    )


def _files(spec: PublishSpec) -> dict[str, Path]:
    """The weights by digest: the base, then the adapter if there is one."""
    files = {spec.base_blob: spec.base_path}
    if spec.adapter_blob and spec.adapter_path:
        files[spec.adapter_blob] = spec.adapter_path
    return files


def _upload_adapter(client: Ollama, spec: PublishSpec, on_progress: Watch | None) -> dict[str, str]:
    if spec.adapter_blob is None:
        return {}
    assert spec.adapter_path is not None, "a digest comes with its file"
    client.upload_blob(spec.adapter_blob, spec.adapter_path, on_progress)
    return {"adapter.gguf": spec.adapter_blob}
