"""One training: recipe + base + dataset + seed → adapter, under the runtime's own prompt.

Reads:  families, bases, datasets
Writes: recipes, runs
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ollama_ft.core.catalog import append, newest, row
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import Emit, Note
from ollama_ft.core.files import artefact, digest_bytes, write_bytes
from ollama_ft.core.home import Home, machine_cache
from ollama_ft.core.plugins import collect
from ollama_ft.core.recipe import Recipe
from ollama_ft.core.records import Base, Dataset, Family, RecipeText, Run
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.general import general_pieces, measured_text
from ollama_ft.kinds.probes import make_probes, measure
from ollama_ft.kinds.rendering import check_lengths, prompt_digest, render_rows, tokenise
from ollama_ft.kinds.trainers.job import Choice, Job, TrainResult
from ollama_ft.runtime.store import Store
from ollama_ft.weights.reader import open_gguf
from ollama_ft.weights.tokenizer import load_tokenizer

SOFTWARE = ("ollama-ft", "torch", "transformers", "peft", "accelerate", "gguf", "xllamacpp")
PLAN = "plan.json"  # what a training was begun with, for `resume`

Render = Callable[[Sequence[Message]], str]


def train(
    db: Database,
    home: Home,
    family: Family,
    dataset: Dataset,
    rows: Sequence[Conversation],
    recipe: Recipe,
    recipe_name: str,
    render: Render,
    emit: Emit,
) -> Run:
    """Train an adapter on the dataset's `rows`; return the run's row, an earlier one if it is.

    `render` is the runtime's rendering of a version of this family. A run that was interrupted
    goes on from its checkpoint. Beside the adapter the run's folder gets `reference.json`: what
    the trained model says to probe prompts, for the proof.

    Raises BadInput, Unsupported, OutOfResources, Stopped or Interrupted; no row is written then.
    """
    base = row(db, Base, family.base)
    prompt = prompt_digest(render)
    digest = _digest(base, dataset, recipe, prompt)
    if found := newest(db, Run, family=family.name, digest=digest):
        return found
    folder = artefact(home.data("runs"), digest, "")
    blob = Store(home.models).blob_path(base.blob_digest)
    _plan(folder, digest, family, dataset, recipe, recipe_name)
    job = _job(blob, base.blob_digest, folder, rows, recipe, render)
    trainer = collect("trainers")[recipe.adapter].thing
    result: TrainResult = trainer(job, emit)
    emit(Note(text="asking the trained model the probe prompts, for the proof"))
    metrics = _measure(blob, result.folder, folder, rows, render)
    text = recipe.text()
    stored = newest(db, RecipeText, digest=recipe.digest) or append(
        db, RecipeText(name=recipe_name, digest=recipe.digest, text=text)
    )
    return append(
        db,
        Run(
            family=family.name,
            digest=digest,
            base=base.key,
            dataset=dataset.key,
            recipe=stored.key,
            seed=recipe.seed,
            prompt_digest=prompt,
            peft_digest=result.digest,
            seconds=round(result.seconds, 1),
            metrics_json=json.dumps(metrics | _curve(result), sort_keys=True),
            software_json=json.dumps(_software() | result.software, sort_keys=True),
            place=place(result.choice),
        ),
    )


def unfinished(db: Database, home: Home, family: Family) -> tuple[Dataset, Recipe, str]:
    """What the newest training of this family that has no row was begun with.

    Raises NotFound if every training that was begun is finished.
    """
    begun = sorted(
        home.data("runs").glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for path in begun:
        plan = json.loads(path.read_text(encoding="utf-8"))
        done = newest(db, Run, family=family.name, digest=plan["digest"])
        dataset = newest(db, Dataset, id=plan["dataset"])
        if plan["family"] == family.name and done is None and dataset is not None:
            return dataset, Recipe(**plan["recipe"]), plan["recipe_name"]
    raise NotFound(f"{family.name} has no training to go on with.", mend="ollama-ft train --data …")


def _plan(
    folder: Path, digest: str, family: Family, dataset: Dataset, recipe: Recipe, name: str
) -> None:
    plan = {"digest": digest, "family": family.name, "dataset": dataset.key}
    plan |= {"recipe": recipe.model_dump(mode="json"), "recipe_name": name}
    write_bytes(folder / PLAN, json.dumps(plan, indent=1).encode())


def _digest(base: Base, dataset: Dataset, recipe: Recipe, prompt: str) -> str:
    names = [base.blob_digest, dataset.digest, recipe.digest, str(recipe.seed), prompt]
    return digest_bytes("\n".join(names).encode())


def _job(
    blob: Path,
    base_digest: str,
    folder: Path,
    rows: Sequence[Conversation],
    recipe: Recipe,
    render: Render,
) -> Job:
    taught = [row for row in rows if row.split in ("train", "validation")]
    rendered = render_rows(render, taught)
    with open_gguf(blob) as gguf:
        tokenizer = load_tokenizer(gguf)
    tokens = [tokenise(tokenizer, r, row.answer) for r, row in zip(rendered, taught, strict=True)]
    check_lengths(tokens, recipe.max_length)
    train_rows = [t for t, row in zip(tokens, taught, strict=True) if row.split == "train"]
    valid_rows = [t for t, row in zip(tokens, taught, strict=True) if row.split == "validation"]
    return Job(
        base=blob,
        train=tuple(train_rows),
        valid=tuple(valid_rows),
        recipe=recipe,
        seed=recipe.seed,
        general=general_pieces(tokenizer, taught),
        folder=folder,
        base_digest=base_digest,
        machine_file=machine_cache() / "machine.json",
    )


def _measure(
    blob: Path, adapter: Path, folder: Path, rows: Sequence[Conversation], render: Render
) -> dict[str, object]:
    # The model is loaded once for the proof's probes and for the perplexity of general text.
    probes = make_probes(blob, rows, render)
    reference, perplexity = measure(blob, adapter, probes, measured_text(rows))
    content = json.dumps([asdict(probe) for probe in reference], ensure_ascii=False)
    write_bytes(folder / "reference.json", content.encode())
    return {"general_perplexity": perplexity}


def _curve(result: TrainResult) -> dict[str, object]:
    return {
        "best_step": result.best_step,
        "steps": result.steps,
        "valid_losses": [[step, round(loss, 4)] for step, loss in result.valid_losses],
        "peak_rss_bytes": result.peak_rss_bytes,
    }


def place(choice: Choice) -> str:
    """Where and how a run was computed: "cpu, 2 threads, fp32"."""
    return f"{choice.device}, {choice.threads} threads, {choice.dtype}"


def _software() -> dict[str, str]:
    found = {}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
