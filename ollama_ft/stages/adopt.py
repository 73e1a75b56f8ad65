"""A version that was not trained here becomes rows of this home, to be proved like any other.

Reads:  versions, runs, recipes, datasets, evaluations
Writes: datasets, recipes, runs, adapters, versions, evaluations, origins

Files first, each under its digest; then all rows at once. A version that is here already is found
again. The proof of its maker is kept beside the origin and counts for nothing here.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ollama_ft.core.catalog import append, newest, row
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import Conflict, Unsupported
from ollama_ft.core.files import (
    CHUNK,
    artefact,
    digest_bytes,
    digest_file,
    freeze,
    write_atomic,
    write_bytes,
)
from ollama_ft.core.home import Home
from ollama_ft.core.records import (
    Adapter,
    Base,
    Dataset,
    Evaluation,
    Family,
    Origin,
    RecipeText,
    Run,
    Version,
    utc_now,
)
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.bundle import Bundle
from ollama_ft.kinds.imports import Offer
from ollama_ft.kinds.provenance import Facts, Provenance, VersionFacts, version_digest
from ollama_ft.runtime.store import Store

Render = Callable[[Sequence[Message]], str]
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
TRAINER = ("torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """How a version came: to be kept as its origin."""

    kind: str
    source: str
    signer: str = ""


def adopt(
    db: Database,
    home: Home,
    family: Family,
    base: Base,
    bundle: Bundle,
    arrival: Arrival,
    *,
    work: Path,
    renumber: bool = False,
) -> Version:
    """Make a bundle's version one of this family, under its own number; return its row.

    `renumber` gives it the next number where its own is taken. `work` is an empty folder. Raises
    BadWeights if the adapter is not for this base, Conflict if the number stands for another
    version, or a file of the same name is here with other content; no row is written then.
    """
    known = bundle.provenance
    found = newest(db, Version, family=family.name, digest=known.version.digest)
    run = row(db, Run, found.run).digest if found else known.run.digest
    folder = artefact(home.data("runs"), run, "")
    targets = {
        "adapter.gguf": artefact(home.data("adapters"), known.adapter.digest, ".gguf"),
        "adapter_config.json": folder / "adapter" / "adapter_config.json",
        "adapter_model.safetensors": folder / "adapter" / "adapter_model.safetensors",
        "reference.json": folder / "reference.json",
    }
    if found and all(target.is_file() for target in targets.values()):
        return found
    number = found.number if found else _number(db, family, known, renumber)
    _check_weights(home, base, bundle.files, work)
    for title, target in targets.items():
        if not (found and target.is_file()):
            _keep(bundle.files[title], target)
    if found:  # gc had let its weights go
        return found
    if known.evaluation and "evaluation.json" in bundle.files:
        kept = artefact(home.data("evaluations"), known.evaluation.digest, ".json")
        _keep(bundle.files["evaluation.json"], kept)
    if known.proof:
        kept = artefact(home.data("origins"), known.proof.digest, ".json")
        _keep(bundle.files["proof.json"], kept)
    digest, _ = freeze(home.data("origins"), bundle.artefact.content(), ".json")
    with db.atomic():
        version = _rows(db, family, base, known, number)
        if known.evaluation and "evaluation.json" in bundle.files:
            _evaluation(db, version, known)
        _origin(db, version, arrival, digest)
    return version


def check_trainer() -> None:
    """Raise Unsupported, saying what is lacking, where nothing can be proved without a reference.

    What an adapter is proved against is what the trainer's model says with it. A bundle brings
    that along; an adapter made elsewhere needs the trainer here.
    """
    missing = [name for name in TRAINER if find_spec(name) is None]
    if missing:
        raise Unsupported(
            "An adapter that was made elsewhere is proved against the trainer's own model, and "
            f"{', '.join(missing)} is not installed here.",
            mend="pip install 'ollama-ft[train]', or import a bundle, which needs none of it",
        )


def adopt_foreign(
    db: Database,
    home: Home,
    family: Family,
    base: Base,
    offer: Offer,
    arrival: Arrival,
    *,
    dataset: Dataset,
    asked: Callable[[], Sequence[Conversation]],
    render: Render,
    work: Path,
) -> Version:
    """Make an adapter that was made elsewhere the family's next version; return its row.

    `asked` gives the rows that it is asked for its proof, `dataset` is what is known of what it was
    taught (no rows at all, if nothing is). Its reference is made here, with the trainer's model.

    Raises Unsupported without the trainer, BadWeights or Unsupported for an adapter that is not
    for this base; no row is written then.
    """
    check_trainer()
    from ollama_ft.kinds.rendering import prompt_digest

    blob = Store(home.models).blob_path(base.blob_digest)
    made = _converted(offer, blob, work)
    digest = version_digest(base.blob_digest, made.digest, family)
    if found := newest(db, Version, family=family.name, digest=digest):
        made.keep(home, row(db, Run, found.run).digest)  # gc may have let its weights go
        return found
    rows, prompt = asked(), prompt_digest(render)
    inputs = ("import", base.blob_digest, made.digest, prompt, *(row.digest for row in rows))
    run_digest = digest_bytes("\n".join(inputs).encode())
    reference, perplexity = _reference(blob, made.peft, rows, render)
    folder = made.keep(home, run_digest)
    write_bytes(folder / "reference.json", reference)
    run = Run(
        family=family.name,
        digest=run_digest,
        base=base.key,
        dataset=dataset.key,
        recipe=0,  # its row is written with this one
        seed=0,
        prompt_digest=prompt,
        peft_digest=digest_file(folder / "adapter" / "adapter_model.safetensors"),
        seconds=0.0,
        metrics_json=json.dumps({"general_perplexity": perplexity}),
        software_json=json.dumps({"made with": offer.made_with}),
        place="elsewhere",
    )
    recipe = (made.peft / "adapter_config.json").read_text(encoding="utf-8")
    with db.atomic():
        stored = _recipe(db, f"made elsewhere: {offer.kind}", recipe)
        run = append(db, replace(run, recipe=stored.key))
        adapter = append(db, made.record(run))
        version = _version(db, family, base, run, adapter, digest, _next(db, family), None)
        _origin(db, version, arrival, made.digest)
    return version


@dataclass(frozen=True, kw_only=True)
class _Converted:
    """An adapter in both forms, and what converting changed."""

    peft: Path
    gguf: Path
    digest: str  # of the GGUF
    tensors: int
    max_error: float

    def keep(self, home: Home, run: str) -> Path:
        """Copy both forms to where they belong, but for what is there; return the run's folder."""
        folder = artefact(home.data("runs"), run, "")
        for name in PEFT_FILES:
            if not (folder / "adapter" / name).is_file():
                _keep(self.peft / name, folder / "adapter" / name)
        _keep(self.gguf, artefact(home.data("adapters"), self.digest, ".gguf"))
        return folder

    def record(self, run: Run) -> Adapter:
        return Adapter(
            run=run.key,
            digest=self.digest,
            size=self.gguf.stat().st_size,
            tensors=self.tensors,
            max_error=self.max_error,
        )


def _converted(offer: Offer, blob: Path, work: Path) -> _Converted:
    from ollama_ft.weights.adapter import adapter_to_peft, convert_adapter
    from ollama_ft.weights.reader import open_gguf

    with open_gguf(blob) as base:
        if offer.gguf is not None:
            peft = adapter_to_peft(offer.gguf, base, work / "as-peft")
            with open_gguf(offer.gguf) as gguf:
                tensors = len(gguf.tensors)
            return _Converted(
                peft=peft,
                gguf=offer.gguf,
                digest=digest_file(offer.gguf),
                tensors=tensors,
                max_error=0.0,
            )
        assert offer.peft is not None, "an offer without an artefact has an adapter"
        made = convert_adapter(
            offer.peft, base, work / "adapter.gguf", provenance={"made": offer.kind}
        )
    return _Converted(
        peft=offer.peft,
        gguf=made.path,
        digest=made.digest,
        tensors=made.tensors,
        max_error=made.max_error,
    )


def _reference(
    blob: Path, peft: Path, rows: Sequence[Conversation], render: Render
) -> tuple[bytes, Mapping[str, float]]:
    from ollama_ft.kinds.general import measured_text
    from ollama_ft.kinds.probes import make_probes, measure

    places = make_probes(blob, rows, render)
    references, perplexity = measure(blob, peft, places, measured_text(rows))
    told = json.dumps([asdict(place) for place in references], ensure_ascii=False)
    return told.encode(), perplexity


def _number(db: Database, family: Family, known: Provenance, renumber: bool) -> int:
    number = known.version.number
    if newest(db, Version, family=family.name, number=number) is None:
        return number
    if renumber:
        return _next(db, family)
    raise Conflict(
        f"{family.name}:v{number} is here already, and is another version.",
        mend="give it the next number with --renumber, or another family with --family NAME",
    )


def _next(db: Database, family: Family) -> int:
    highest = db.execute(
        "select max(number) from versions where family = ?", [family.name]
    ).fetchone()[0]
    return 0 if highest is None else int(highest) + 1


def _check_weights(home: Home, base: Base, files: Mapping[str, Path], work: Path) -> None:
    """Every tensor of the adapter fits the base, in both of its forms."""
    from ollama_ft.weights.adapter import adapter_to_peft
    from ollama_ft.weights.peft_folder import read_peft
    from ollama_ft.weights.reader import open_gguf

    folder = work / "peft"
    for name in PEFT_FILES:
        _keep(files[name], folder / name)
    theirs = {pair.module for pair in read_peft(folder)}
    with open_gguf(Store(home.models).blob_path(base.blob_digest)) as gguf:
        again = adapter_to_peft(files["adapter.gguf"], gguf, work / "checked")
    if theirs != {pair.module for pair in read_peft(again)}:
        raise Conflict("The bundle's PEFT files and its GGUF are not the same adapter.")


def _keep(source: Path, target: Path) -> None:
    """Copy a file to where it belongs; one that is there must be the same."""
    if target.exists():
        if digest_file(target) != digest_file(source):
            raise Conflict(
                f"{target} is here already, with other content than what came.",
                mend="ollama-ft doctor",
            )
        return
    with source.open("rb") as content:
        write_atomic(target, lambda file: shutil.copyfileobj(content, file, CHUNK))


def _rows(db: Database, family: Family, base: Base, known: Provenance, number: int) -> Version:
    dataset = newest(db, Dataset, family=family.name, digest=known.dataset.digest) or append(
        db,
        Dataset(family=family.name, parent=None, sources_json="{}", **_columns(known.dataset)),
    )
    recipe = _recipe(db, known.recipe.name, known.recipe.text)
    run = newest(db, Run, family=family.name, digest=known.run.digest) or append(
        db,
        Run(
            family=family.name,
            base=base.key,
            dataset=dataset.key,
            recipe=recipe.key,
            metrics_json=json.dumps(known.run.metrics, sort_keys=True),
            software_json=json.dumps(known.run.software, sort_keys=True),
            **_columns(known.run, "metrics", "software"),
        ),
    )
    adapter = newest(db, Adapter, run=run.key, digest=known.adapter.digest) or append(
        db, Adapter(run=run.key, **_columns(known.adapter))
    )
    digest = known.version.digest
    return _version(db, family, base, run, adapter, digest, number, known.version)


def _version(
    db: Database,
    family: Family,
    base: Base,
    run: Run,
    adapter: Adapter,
    digest: str,
    number: int,
    made: VersionFacts | None,
) -> Version:
    parent = newest(db, Version, family=family.name, digest=made.parent) if made else None
    return append(
        db,
        Version(
            at=made.at if made else utc_now(),
            family=family.name,
            number=number,
            digest=digest,
            base=base.key,
            run=run.key,
            adapter=adapter.key,
            dataset=run.dataset,
            parent=parent.key if parent else None,
            system=family.system,
            template=family.template,
            parameters_json=family.parameters_json,
        ),
    )


def _recipe(db: Database, name: str, text: str) -> RecipeText:
    digest = digest_bytes(text.encode())
    return newest(db, RecipeText, digest=digest) or append(
        db, RecipeText(name=name, digest=digest, text=text)
    )


def _evaluation(db: Database, version: Version, known: Provenance) -> None:
    assert known.evaluation is not None, "asked for before"
    append(
        db,
        Evaluation(
            version=version.key,
            metrics_json=json.dumps(known.evaluation.metrics, sort_keys=True),
            **_columns(known.evaluation, "metrics"),
        ),
    )


def _origin(db: Database, version: Version, arrival: Arrival, digest: str) -> None:
    append(db, Origin(version=version.key, digest=digest, **asdict(arrival)))


def _columns(facts: Facts, *others: str) -> dict[str, Any]:
    return {n: value for n, value in facts.model_dump().items() if n not in others}
