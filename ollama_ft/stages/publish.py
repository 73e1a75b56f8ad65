"""Versions: made in the catalog once, brought to a runtime as often as it takes.

Reads:  families, bases, adapters, versions, merges, removals, origins
Writes: versions, publications, merges
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.errors import Conflict, NotFound
from ollama_ft.core.files import artefact, write_bytes
from ollama_ft.core.home import Home
from ollama_ft.core.records import Adapter, Base, Family, Merge, Publication, Removal, Run, Version
from ollama_ft.core.refs import live, way_back
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.base_texts import whence
from ollama_ft.kinds.modelfiles import modelfile_of
from ollama_ft.kinds.provenance import version_digest
from ollama_ft.runtime.probe import probe
from ollama_ft.runtime.publish import ALREADY_THERE, PublishSpec, ensure_base, publish
from ollama_ft.runtime.store import Store

if TYPE_CHECKING:
    from ollama_ft.runtime.client import Ollama


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a version shall get to a runtime."""

    route: str | None = None  # None: the first that works
    # What changed matrices are packed as where adapter and base are merged: a ggml type, or "keep"
    # for the base's own. Measured on SmolLM2 Q4_1: packed as Q4_1 again, the rounding is larger
    # than all that the adapter does, and the proof fails by far; as Q8_0 it passes like an adapter.
    packed_as: str = "Q8_0"


ANY = Way()


def check_free(db: Database, client: "Ollama", name: str) -> None:
    """Raise Conflict if the runtime has a model under the name of a family that is to be begun.

    Its `latest` would be replaced. A `v0` beside it tells that it is a family's, of another home.
    """
    if newest(db, Family, name=name) or client.find(f"{name}:v0"):
        return
    if client.find(f"{name}:latest"):
        raise Conflict(
            f"The runtime has a model {name}:latest, which a live version would replace.",
            mend=f"choose another name for the family: {name}-ft",
        )


def register(db: Database, family: Family, adapter: Adapter | None) -> Version:
    """Give the adapter (None: the bare base, v0) its number in the family; return the version.

    The same adapter under the same prompt is the same version: it is not numbered twice.
    """
    base = row(db, Base, family.base)
    digest = version_digest(base.blob_digest, adapter.digest if adapter else None, family)
    if found := newest(db, Version, family=family.name, digest=digest):
        return found
    run = row(db, Run, adapter.run) if adapter else None
    before = live(db, family.name)
    with db.atomic():
        last = newest(db, Version, family=family.name)
        return append(
            db,
            Version(
                family=family.name,
                number=last.number + 1 if last else 0,
                digest=digest,
                base=base.key,
                run=run.key if run else None,
                adapter=adapter.key if adapter else None,
                dataset=run.dataset if run else None,
                parent=before.version.key if before else None,
                system=family.system,
                template=family.template,
                parameters_json=family.parameters_json,
            ),
        )


def bring(
    db: Database, home: Home, client: "Ollama", version: Version, way: Way = ANY
) -> Publication:
    """Bring the version to the runtime under its immutable tag; return the newest row about it.

    Everything comes from our own store, so a runtime that lost the version, or never had it, gets
    it whole. Nothing happens if the runtime has it already. Routes that this runtime refused before
    are tried last.

    Raises RuntimeRefused with each route's reason if all refuse, NotFound if our own store has lost
    the weights; no publication is written then.
    """
    base = row(db, Base, version.base)
    adapter = row(db, Adapter, version.adapter) if version.adapter else None
    blob = Store(home.models).blob_path(base.blob_digest)
    _check_files(db, home, version, base, adapter)
    runtime = probe(client)
    # The embedded runtime is the home's own store, whatever port it was given this time.
    address = "embedded" if runtime.kind == "embedded" else client.address.url
    base_name = ensure_base(
        client, base.pinned, base_blob=base.blob_digest, blob_path=blob, known_as=base.name
    )
    spec = PublishSpec(
        tag=version.tag,
        base_name=base_name,
        base_blob=base.blob_digest,
        base_path=blob,
        system=version.system,
        template=version.template,
        parameters=json.loads(version.parameters_json),
    )
    published = publish(
        client,
        _with_adapter(db, home, spec, base, adapter, way) if adapter else spec,
        route=way.route,
        last=_refused_before(db, address, runtime.version),
    )
    _export(home, version, base, adapter)
    earlier = newest(db, Publication, version=version.key, address=address)
    if earlier and earlier.digest == published.manifest_digest:
        return earlier
    return append(
        db,
        Publication(
            version=version.key,
            runtime=runtime.kind,
            runtime_version=runtime.version,
            address=address,
            route=published.route,
            tag=version.tag,
            digest=published.manifest_digest,
            capabilities_json=json.dumps(
                asdict(runtime) | {"refused": dict(published.refused)}, sort_keys=True
            ),
        ),
    )


def let_go(db: Database, home: Home, version: Version) -> str:
    """When gc let the version's weights go; "" if they are here, or were lost otherwise."""
    adapter = row(db, Adapter, version.adapter) if version.adapter else None
    if adapter is None or artefact(home.data("adapters"), adapter.digest, ".gguf").is_file():
        return ""
    gone = newest(db, Removal, digest=adapter.digest)
    return gone.at if gone else ""


def told(db: Database, publication: Publication) -> str:
    """How a version got to its runtime, in one sentence: the route, those that were refused, and
    what merging cost."""
    refused = json.loads(publication.capabilities_json).get("refused", {})
    parts = [f"route {publication.route}"]
    parts += [f"{name} refused: {reason}" for name, reason in refused.items()]
    version = row(db, Version, publication.version)
    merged = newest(db, Merge, adapter=version.adapter) if version.adapter else None
    if merged and publication.route == "merged":
        parts.append(
            f"{merged.size / 1e6:,.0f} MB, where the base has {merged.base_size / 1e6:,.0f}; "
            f"changed matrices packed as {merged.packed_as}, which changed them by "
            f"{merged.mean_error:.0%} of what the adapter does (at most {merged.max_error:.0%})"
        )
    return "; ".join(parts)


def _check_files(
    db: Database, home: Home, version: Version, base: Base, adapter: Adapter | None
) -> None:
    if not Store(home.models).has_blob(base.blob_digest):
        raise NotFound(
            f"The base of {version.tag}, {base.blob_digest[:19]}, is not in {home.models}.",
            mend=f"ollama-ft base pull {whence(base)}",
        )
    if adapter and not artefact(home.data("adapters"), adapter.digest, ".gguf").is_file():
        gone = let_go(db, home, version)
        why = f"was let go by gc ({gone})" if gone else "is not in this home"
        raise NotFound(
            f"The adapter of {version.tag}, {adapter.digest[:19]}, {why}.",
            mend=way_back(db, version),
        )


def _with_adapter(
    db: Database, home: Home, spec: PublishSpec, base: Base, adapter: Adapter, way: Way
) -> PublishSpec:
    return replace(
        spec,
        adapter_blob=adapter.digest,
        adapter_path=artefact(home.data("adapters"), adapter.digest, ".gguf"),
        merge=lambda: _merge(db, home, base, adapter, way.packed_as),
        merged=tuple(merge.digest for merge in every(db, Merge, adapter=adapter.key)),
    )


def _refused_before(db: Database, address: str, version: str) -> Collection[str]:
    """The routes that this runtime, in this version, refused when something was last brought."""
    for publication in every(db, Publication, address=address, runtime_version=version):
        if publication.route != ALREADY_THERE:
            return list(json.loads(publication.capabilities_json).get("refused", {}))
    return ()


def _merge(
    db: Database, home: Home, base: Base, adapter: Adapter, packed_as: str
) -> tuple[str, Path]:
    """The base with the adapter built in, from our store or made now: its digest and file."""
    store = Store(home.models)
    found = newest(db, Merge, adapter=adapter.key, packed_as=packed_as)
    if found and store.has_blob(found.digest):
        return found.digest, store.blob_path(found.digest)
    from ollama_ft.weights.merge import merge

    with TemporaryDirectory(dir=store.blobs, prefix=".merge-") as temporary:
        made = merge(
            store.blob_path(base.blob_digest),
            artefact(home.data("adapters"), adapter.digest, ".gguf"),
            Path(temporary) / "merged.gguf",
            packed_as=packed_as,
        )
        store.add_blob(made.path, made.digest)
    if found is None or found.digest != made.digest:
        append(
            db,
            Merge(
                adapter=adapter.key,
                packed_as=packed_as,
                digest=made.digest,
                size=made.size,
                base_size=made.base_size,
                mean_error=round(made.mean_error, 4),
                max_error=round(made.worst.error, 4),
                types_json=json.dumps(made.types, sort_keys=True),
            ),
        )
    return made.digest, store.blob_path(made.digest)


def _export(home: Home, version: Version, base: Base, adapter: Adapter | None) -> None:
    path = home.modelfiles / version.family / f"v{version.number}.Modelfile"
    beside = str(artefact(Path("../../data/adapters"), adapter.digest, ".gguf")) if adapter else ""
    about = f"{version.tag}, made by ollama-ft. The base is {base.blob_digest}."
    text = modelfile_of(version, base, beside).text(about)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_bytes(path, text.encode())
