"""Versions: made in the catalog once, brought to a runtime as often as it takes.

Reads:  families, bases, adapters, versions
Writes: versions, publications
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, newest, row
from ollama_ft.core.files import artefact, write_bytes
from ollama_ft.core.home import Home
from ollama_ft.core.records import Adapter, Base, Family, Publication, Run, Version
from ollama_ft.core.refs import live
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.provenance import version_digest
from ollama_ft.runtime.modelfile import Modelfile
from ollama_ft.runtime.probe import probe
from ollama_ft.runtime.publish import PublishSpec, ensure_base, publish
from ollama_ft.runtime.store import Store

if TYPE_CHECKING:
    from ollama_ft.runtime.client import Ollama


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
    db: Database, home: Home, client: "Ollama", version: Version, *, route: str | None = None
) -> Publication:
    """Bring the version to the runtime under its immutable tag; return the newest row about it.

    Everything comes from our own store, so a runtime that lost the version, or never had it, gets
    it whole. Nothing happens if the runtime has it already.

    Raises RuntimeRefused with each route's reason if all refuse; nothing is written then.
    """
    base = row(db, Base, version.base)
    adapter = row(db, Adapter, version.adapter) if version.adapter else None
    blob = Store(home.models).blob_path(base.blob_digest)
    base_name = ensure_base(
        client, base.pinned, base_blob=base.blob_digest, blob_path=blob, known_as=base.name
    )
    published = publish(
        client,
        PublishSpec(
            tag=version.tag,
            base_name=base_name,
            base_blob=base.blob_digest,
            base_path=blob,
            adapter_blob=adapter.digest if adapter else None,
            adapter_path=artefact(home.data("adapters"), adapter.digest, ".gguf")
            if adapter
            else None,
            system=version.system,
            template=version.template,
            parameters=json.loads(version.parameters_json),
        ),
        route=route,
    )
    runtime = probe(client)
    # The embedded runtime is the home's own store, whatever port it was given this time.
    address = "embedded" if runtime.kind == "embedded" else client.address.url
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
            capabilities_json=json.dumps(asdict(runtime), sort_keys=True),
        ),
    )


def _export(home: Home, version: Version, base: Base, adapter: Adapter | None) -> None:
    path = home.modelfiles / version.family / f"v{version.number}.Modelfile"
    text = Modelfile(
        sources=(base.name,),
        adapters=(f"../../data/adapters/{adapter.digest.removeprefix('sha256:')}.gguf",)
        if adapter
        else (),
        template=version.template or None,
        system=version.system or None,
        parameters=json.loads(version.parameters_json),
    ).text()
    text = f"# {version.tag}, made by ollama-ft. The base is {base.blob_digest}.\n{text}"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_bytes(path, text.encode())
