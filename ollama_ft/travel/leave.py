"""Giving a version away: as a file, or into a registry."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.events import Emit, Note, Stage, silent
from ollama_ft.core.home import Home
from ollama_ft.core.plugins import collect
from ollama_ft.core.records import Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds import signatures
from ollama_ft.kinds.exports import Goods
from ollama_ft.runtime.oci.artefact import MANIFEST, Artefact, Descriptor
from ollama_ft.runtime.oci.client import Reach, Repository, open_repository
from ollama_ft.runtime.oci.place import Place
from ollama_ft.stages import pack as packing
from ollama_ft.travel.bases import counter


def export(
    db: Database,
    home: Home,
    version: Version,
    kind: str,
    out: Path,
    *,
    answers: bool = True,
    key: str | None = None,
    emit: Emit = silent,
    env: Mapping[str, str] | None = None,
) -> Path:
    """Write the version at `out` as `kind` (kinds/exports.py), signed by `key` if it is a bundle.

    What Ollama's own parser would lose of a Modelfile is told. Raises BadInput for an unknown kind,
    one that holds no signature, or a place that cannot be written; NotFound for a file or key that
    is gone, BadWeights for one that is damaged.
    """
    known = collect("exports")
    if kind not in known:
        raise BadInput(f"{kind!r} is no kind of export. Known: {', '.join(known)}.")
    if key and kind != "bundle":
        raise BadInput(
            f"{kind!r} has no place for a signature.",
            mend=f"ollama-ft export {version.tag} --as bundle --sign {key} -o FILE.tar",
        )
    if kind != "peft" and out.is_dir():
        raise BadInput(f"{out} is a folder.", mend=f"name a file in it: -o {out}/NAME")
    goods = _goods(db, home, version, answers, key, env or os.environ)
    try:
        written: Path = known[kind].thing(goods, out)
    except OSError as error:
        raise BadInput(
            f"{out} cannot be written: {error.strerror}.",
            mend="choose another place with -o",
        ) from error
    for loss in goods.modelfile.losses() if kind == "modelfile" else ():
        emit(Note(text=f"`ollama create` would lose something of this Modelfile. {loss}"))
    return written


def push(
    db: Database,
    home: Home,
    version: Version,
    place: Place,
    reach: Reach,
    emit: Emit,
    *,
    ollama_tag: str | None = None,
    answers: bool = True,
    key: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Place:
    """Put the version into a registry, under its number where no tag is named; return where it is,
    with its digest.

    `ollama_tag` is a second tag in the form that a stock `ollama pull` runs, base and all. Blobs
    that the registry has are not sent again. Raises NotFound, BadInput, RuntimeRefused,
    RuntimeUnavailable; no tag has moved then.
    """
    env = env or os.environ
    goods = _goods(db, home, version, answers, key, env)
    packed = goods.packed()
    artefact, contents = packed.artefact, packed.contents
    target = place if place.reference else place.with_tag(f"v{version.number}")
    emit(Stage(name="push", text=f"{version.tag} to {target}"))
    with open_repository(
        place, env=env, reach=reach, on_moved=counter(emit, "pushing")
    ) as repository:
        for blob in artefact.blobs:
            repository.send(blob, contents[blob.digest])
        if ollama_tag:
            _push_for_ollama(db, home, version, repository, place.with_tag(ollama_tag))
        digest = repository.tag(target.reference, artefact.content(), MANIFEST)
    return replace(target, digest=digest)


def _push_for_ollama(
    db: Database, home: Home, version: Version, repository: Repository, target: Place
) -> None:
    manifest, contents = packing.for_ollama(db, home, version)
    for layer in (*manifest.layers, manifest.config):
        blob = Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)
        repository.send(blob, contents[layer.digest])
    repository.tag(target.tag, manifest.content(), manifest.media_type)


def _goods(
    db: Database,
    home: Home,
    version: Version,
    answers: bool,
    key: str | None,
    env: Mapping[str, str],
) -> Goods:
    def sign(artefact: Artefact) -> Artefact:
        assert key is not None, "only called with a key"
        return signatures.sign(home, artefact, key, env)

    return packing.goods(db, home, version, answers=answers, sign=sign if key else None)
