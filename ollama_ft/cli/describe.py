"""What is known of a version, as plain values: for show, diff and their JSON."""

import json
from dataclasses import asdict
from typing import Any

from ollama_ft.core.catalog import newest, row
from ollama_ft.core.errors import NotFound
from ollama_ft.core.files import artefact
from ollama_ft.core.home import Home
from ollama_ft.core.judged_records import Verdict
from ollama_ft.core.records import (
    Adapter,
    Base,
    Dataset,
    Evaluation,
    Origin,
    Proof,
    Publication,
    RecipeText,
    Run,
    Version,
)
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.ratings import Blend, Human
from ollama_ft.stages.evaluate import Answered, answers
from ollama_ft.stages.forget import marks
from ollama_ft.stages.measure import measured
from ollama_ft.stages.rate import human

Fields = dict[str, Any]


def describe(db: Database, version: Version) -> dict[str, Fields]:
    """Everything about a version by title, each row with its digest, so that it can be traced."""
    base = row(db, Base, version.base)
    status = next(iter(db.query("select status from status where version = ?", [version.id])))
    parent = row(db, Version, version.parent).tag if version.parent else None
    found: dict[str, Fields] = {
        version.tag: {
            "status": status["status"],
            "digest": version.digest,
            "made": version.at,
            "parent": parent,
            "system": version.system,
            "template": version.template,
            "parameters": json.loads(version.parameters_json),
        },
        "base": {
            "name": base.name,
            "blob": base.blob_digest,
            "pinned as": base.pinned,
            "architecture": base.architecture,
            "size": f"{base.parameter_size} {base.quantization}",
            "licence": base.licence or "not told",
            "source": json.loads(base.source_json),
        },
    }
    if forgotten := marks(db, version):
        found[version.tag]["learned from"] = f"{forgotten} exchanges that were forgotten since"
    if origin := newest(db, Origin, version=version.key):
        found["origin"] = {
            "kind": origin.kind,
            "from": origin.source,
            "digest": origin.digest,
            "signed by": origin.signer[:12] or "nobody who is trusted here",
            "came": origin.at,
        }
    if version.run:
        found |= _training(db, version)
    return found | _served(db, version)


def _training(db: Database, version: Version) -> dict[str, Fields]:
    run = row(db, Run, version.run)
    adapter = row(db, Adapter, version.adapter)
    dataset = row(db, Dataset, version.dataset)
    recipe = row(db, RecipeText, run.recipe)
    return {
        "training": {
            "run": run.digest,
            "recipe": f"{recipe.name} ({recipe.digest})",
            "seed": run.seed,
            "place": run.place,
            "seconds": run.seconds,
            "metrics": json.loads(run.metrics_json),
            "software": json.loads(run.software_json),
        },
        "dataset": {
            "digest": dataset.digest,
            "rows": f"{dataset.train} train, {dataset.validation} validation, {dataset.test} test",
            "sources": json.loads(dataset.sources_json),
        },
        "adapter": {
            "gguf": adapter.digest,
            "peft": run.peft_digest,
            "bytes": adapter.size,
            "tensors": adapter.tensors,
            "largest error": adapter.max_error,
        },
    }


def _served(db: Database, version: Version) -> dict[str, Fields]:
    found: dict[str, Fields] = {}
    if publication := newest(db, Publication, version=version.key):
        found["published"] = {
            "at": publication.address,
            "runtime": f"{publication.runtime} {publication.runtime_version}",
            "route": publication.route,
            "manifest": publication.digest,
        }
    if proof := newest(db, Proof, version=version.key):
        checks = json.loads(proof.figures_json)
        found["proof"] = {"passed": bool(proof.passed), "digest": proof.digest} | checks
    if evaluation := newest(db, Evaluation, version=version.key, suite=""):
        found["evaluation"] = {
            "right": f"{evaluation.right} of {evaluation.questions}",
            "perplexity of general text": evaluation.perplexity,
            "means": json.loads(evaluation.metrics_json),
            "measured": measured(db, evaluation),
            "suite": evaluation.suite_digest,
            "digest": evaluation.digest,
        }
    if verdict := newest(db, Verdict, version=version.key):
        figures = json.loads(verdict.figures_json)
        found["gate"] = {
            "verdict": verdict.outcome,
            "against": row(db, Version, verdict.against).tag,
            "said": figures["headline"],
            "because": figures["sentences"],
            "gate": f"{verdict.gate} ({verdict.gate_digest})",
            "accepted": json.loads(verdict.accepted_json),
        }
    if people := human(db, version):
        found["people"] = _people(people, evaluation)
    return found


def _people(people: Human, evaluation: Evaluation | None) -> Fields:
    fields: Fields = {name: round(value, 2) for name, value in asdict(people).items()}
    fields["human score"] = round(people.score, 1)
    if evaluation is None:
        return fields
    blend = Blend(automatic=100 * evaluation.right / evaluation.questions, human=people.score)
    fields["automatic score"] = round(blend.automatic, 1)
    return fields | {"40 % automatic and 60 % human": round(blend.score, 1)}


def modelfile_text(home: Home, version: Version) -> str:
    """The exported Modelfile. Raises NotFound if the version was never published."""
    path = home.modelfiles / version.family / f"v{version.number}.Modelfile"
    if not path.is_file():
        raise NotFound(f"{version.tag} was never published, so it has no Modelfile.")
    return path.read_text(encoding="utf-8")


def proof_text(db: Database, home: Home, version: Version) -> str:
    """The newest proof as its JSON. Raises NotFound if there is none."""
    proof = newest(db, Proof, version=version.key)
    if proof is None:
        raise NotFound(f"{version.tag} has no proof.", mend="ollama-ft list")
    return artefact(home.data("proofs"), proof.digest, ".json").read_text(encoding="utf-8")


# What `diff` compares: name → title and path in what `describe` tells.
COMPARED = {
    "status": ("version", "status"),
    "parent": ("version", "parent"),
    "base": ("base", "blob"),
    "system": ("version", "system"),
    "template": ("version", "template"),
    "parameters": ("version", "parameters"),
    "data": ("dataset", "rows"),
    "dataset": ("dataset", "digest"),
    "recipe": ("training", "recipe"),
    "seed": ("training", "seed"),
    "trained on": ("training", "place"),
    "adapter": ("adapter", "gguf"),
    "questions right": ("evaluation", "right"),
    "token F1": ("evaluation", "means/token_f1"),
    "stops by itself": ("evaluation", "means/stops"),
    "general perplexity": ("evaluation", "perplexity of general text"),
    "distance to trainer": ("proof", "scores/distance"),
}


def difference(db: Database, home: Home, one: Version, two: Version) -> Fields:
    """The parts in which two versions differ, and the questions that both were asked."""
    first, second = _flat(describe(db, one)), _flat(describe(db, two))
    parts = {
        name: (first.get(name, "-"), second.get(name, "-"))
        for name in first | second
        if first.get(name) != second.get(name)
    }
    return {"parts": parts, "questions": _questions(db, home, one, two)}


def _flat(described: dict[str, Fields]) -> Fields:
    # The first title is the version's own tag; under it the names differ for each version.
    (_, head), *others = described.items()
    titles = {"version": head, **dict(others)}
    return {
        name: value
        for name, (title, key) in COMPARED.items()
        if (value := _dig(titles.get(title, {}), key)) is not None
    }


def _dig(fields: Fields, key: str) -> Any:
    value: Any = fields
    for part in key.split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _questions(db: Database, home: Home, one: Version, two: Version) -> list[Fields]:
    first, second = _answers(db, home, one), _answers(db, home, two)
    return [
        {
            "question": a.question,
            "expected": a.expected,
            "first": a.answer,
            "second": second[digest].answer,
            "first_right": a.right,
            "second_right": second[digest].right,
        }
        for digest, a in first.items()
        if digest in second
    ]


def _answers(db: Database, home: Home, version: Version) -> dict[str, Answered]:
    evaluation = newest(db, Evaluation, version=version.key, suite="")
    return {a.question_digest: a for a in answers(home, evaluation)} if evaluation else {}
