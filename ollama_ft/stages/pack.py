"""A version made ready to travel: all that is known of it, gathered from the rows behind it.

Reads:  versions, bases, runs, recipes, datasets, adapters, publications, proofs, evaluations,
        removals, origins
Writes: nothing
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ollama_ft.core.catalog import newest, row
from ollama_ft.core.errors import BadWeights, NotFound
from ollama_ft.core.files import artefact
from ollama_ft.core.home import Home
from ollama_ft.core.records import (
    Adapter,
    Base,
    Dataset,
    Evaluation,
    Proof,
    Publication,
    RecipeText,
    Removal,
    Run,
    Version,
)
from ollama_ft.core.refs import way_back
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds import provenance as told
from ollama_ft.kinds.base_texts import whence
from ollama_ft.kinds.bundle import Packed, pack
from ollama_ft.kinds.exports import Goods
from ollama_ft.kinds.modelfiles import modelfile_of
from ollama_ft.runtime.manifest import Manifest
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.oci.artefact import Artefact
from ollama_ft.runtime.oci.layout import Contents
from ollama_ft.runtime.store import Store

Sign = Callable[[Artefact], Artefact]


def goods(
    db: Database, home: Home, version: Version, *, answers: bool = True, sign: Sign | None = None
) -> Goods:
    """The version as files, to be packed as one artefact unless it is the bare base.

    `answers` False leaves out the test questions with their answers; the probes that prove the
    version, and the questions in them, always go along.
    """
    base = row(db, Base, version.base)
    text = modelfile_of(version, base)
    blob = Store(home.models).blob_path(base.blob_digest)
    if version.adapter is None or version.run is None:
        return Goods(tag=version.tag, base=blob, modelfile=text)
    adapter, run = row(db, Adapter, version.adapter), row(db, Run, version.run)
    folder = artefact(home.data("runs"), run.digest, "")
    gone = newest(db, Removal, digest=adapter.digest)
    return Goods(
        tag=version.tag,
        base=blob,
        modelfile=text,
        adapter=artefact(home.data("adapters"), adapter.digest, ".gguf"),
        digest=adapter.digest,
        lost=f"was let go by gc ({gone.at})" if gone else "is not in this home",
        way_back=way_back(db, version),
        peft=folder / "adapter",
        peft_digest=run.peft_digest,
        pack=lambda: _packed(db, home, version, answers, sign),
    )


def for_ollama(db: Database, home: Home, version: Version) -> tuple[Manifest, Contents]:
    """The version as a model that a stock Ollama pulls and runs: base, adapter and texts.

    Returns its manifest, in Ollama's media types, and each blob's content by digest. Raises
    NotFound where the base is gone from the home.
    """
    from ollama_ft.runtime.assemble import Texts, assemble, gguf_details, read_texts

    base, adapter = row(db, Base, version.base), row(db, Adapter, version.adapter)
    store = Store(home.models)
    if not store.has_blob(base.blob_digest):
        raise NotFound(
            f"The base of {version.tag}, {base.blob_digest[:19]}, is not in {home.models}.",
            mend=f"ollama-ft base pull {whence(base)}",
        )
    blob = store.blob_path(base.blob_digest)
    of_base = read_texts(store, store.read(Name.parse(base.pinned)).manifest)
    texts = Texts(
        template=version.template or of_base.template,
        system=version.system,
        parameters=json.loads(version.parameters_json),
        license=of_base.license,
    )
    weights = [
        ("model", base.blob_digest, base.size),
        ("adapter", adapter.digest, adapter.size),
    ]
    made = assemble(weights, texts, gguf_details(blob))
    path = artefact(home.data("adapters"), adapter.digest, ".gguf")
    return made.manifest, {**made.blobs, base.blob_digest: blob, adapter.digest: path}


def provenance(db: Database, version: Version) -> told.Provenance:
    """What the rows behind a trained version say, without their ids."""
    run, dataset = row(db, Run, version.run), row(db, Dataset, version.dataset)
    parent = row(db, Version, version.parent) if version.parent else None
    proof = newest(db, Proof, version=version.key)
    evaluation = newest(db, Evaluation, version=version.key, suite="")
    return told.Provenance(
        version=told.VersionFacts(
            **_fields(version, told.VersionFacts, "parameters", "parent"),
            parameters=json.loads(version.parameters_json),
            parent=parent.digest if parent else None,
        ),
        base=told.BaseFacts(**_fields(row(db, Base, version.base), told.BaseFacts)),
        dataset=told.DatasetFacts(**_fields(dataset, told.DatasetFacts)),
        recipe=told.RecipeFacts(**_fields(row(db, RecipeText, run.recipe), told.RecipeFacts)),
        run=told.RunFacts(
            **_fields(run, told.RunFacts, "metrics", "software"),
            metrics=json.loads(run.metrics_json),
            software=json.loads(run.software_json),
        ),
        adapter=told.AdapterFacts(**_fields(row(db, Adapter, version.adapter), told.AdapterFacts)),
        proof=_proof(db, proof) if proof else None,
        evaluation=told.EvaluationFacts(
            **_fields(evaluation, told.EvaluationFacts, "metrics"),
            metrics=json.loads(evaluation.metrics_json),
        )
        if evaluation
        else None,
    )


def _proof(db: Database, proof: Proof) -> told.ProofFacts:
    publication = row(db, Publication, proof.publication)
    return told.ProofFacts(
        digest=proof.digest,
        at=proof.at,
        passed=bool(proof.passed),
        runtime=publication.runtime,
        runtime_version=publication.runtime_version,
        route=publication.route,
        figures=json.loads(proof.figures_json),
    )


def _fields(record: object, facts: type[told.Facts], *others: str) -> dict[str, object]:
    """The record's columns that the facts have too, but for `others`."""
    return {n: getattr(record, n) for n in facts.model_fields if n not in others}


def _packed(db: Database, home: Home, version: Version, answers: bool, sign: Sign | None) -> Packed:
    known = provenance(db, version)
    folder = artefact(home.data("runs"), known.run.digest, "")
    files: dict[str, bytes | Path] = {
        "adapter.gguf": artefact(home.data("adapters"), known.adapter.digest, ".gguf"),
        "adapter_config.json": folder / "adapter" / "adapter_config.json",
        "adapter_model.safetensors": folder / "adapter" / "adapter_model.safetensors",
        "reference.json": folder / "reference.json",
    }
    if known.proof:
        files["proof.json"] = artefact(home.data("proofs"), known.proof.digest, ".json")
    if known.evaluation and answers:
        files["evaluation.json"] = artefact(
            home.data("evaluations"), known.evaluation.digest, ".json"
        )
    gone = [p for p in files.values() if isinstance(p, Path) and not p.is_file()]
    if gone:
        raise NotFound(
            f"{version.tag} cannot be packed, a file of it is gone: {gone[0]}.",
            mend="bring it back from a copy, or give away the adapter alone: "
            f"ollama-ft export {version.tag} --as gguf -o adapter.gguf",
        )
    made = modelfile_of(version, row(db, Base, version.base), "./adapter.gguf")
    files["Modelfile"] = made.text().encode()
    packed = pack(known, files)
    _check_unchanged(version, packed, known.named())
    return Packed(artefact=sign(packed.artefact), contents=packed.contents) if sign else packed


def _check_unchanged(version: Version, packed: Packed, named: Mapping[str, str]) -> None:
    """What is sent is what the rows name: else it would be refused wherever it goes."""
    for layer in packed.artefact.layers:
        if named.get(layer.title, layer.digest) != layer.digest:
            raise BadWeights(
                f"{layer.title} of {version.tag} was changed since it was made.",
                mend="bring it back from a copy, or train again: ollama-ft train",
            )
