"""One training: recipe + base + dataset + seed → adapter, under the runtime's own prompt.

Reads:  families, bases, datasets
Writes: recipes, runs
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

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
from ollama_ft.kinds.augment import passes, recombined
from ollama_ft.kinds.general import measured_text, replayed
from ollama_ft.kinds.probes import make_probes, measure
from ollama_ft.kinds.rendering import (
    Rendered,
    check_lengths,
    check_targets,
    prompt_digest,
    render_behind,
    render_rows,
    tokenise,
    with_teachers,
)
from ollama_ft.kinds.trainers.job import Choice, Job, Row, TrainResult
from ollama_ft.runtime.store import Store
from ollama_ft.weights.reader import open_gguf
from ollama_ft.weights.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from ollama_ft.weights.tokenizer import Tokenizer

SOFTWARE = ("ollama-ft", "torch", "transformers", "peft", "accelerate", "gguf", "xllamacpp")
PLAN = "plan.json"  # what a training was begun with, for `resume`

Render = Callable[[Sequence[Message]], str]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A training that can begin: rendered, tokenised and checked. Nothing is written yet."""

    family: Family
    base: Base
    blob: Path
    rows: tuple[Conversation, ...]
    recipe: Recipe
    recipe_name: str
    render: Render
    prompt_digest: str
    taught: tuple[Row, ...]
    asked: tuple[dict[int, Row], ...]  # by pass: what stands in for a taught row
    known: tuple[int, ...]  # places of taught rows that the adapter to go on from knows
    validated: tuple[Row, ...]
    general: tuple[Row, ...]
    start: Path | None  # the folder of the adapter to go on from

    def digest(self, dataset: Dataset) -> str:
        """Names the run by its inputs: base, dataset, recipe, seed, and the runtime's prompt."""
        names = [self.base.blob_digest, dataset.digest, self.recipe.digest]
        names += [str(self.recipe.seed), self.prompt_digest]
        return digest_bytes("\n".join(names).encode())


def prepare(
    db: Database,
    home: Home,
    family: Family,
    rows: Sequence[Conversation],
    recipe: Recipe,
    recipe_name: str,
    render: Render,
    learned: frozenset[str] = frozenset(),
) -> Prepared:
    """Render and tokenise `rows` by the runtime (`render`: a version of this family).

    `learned` are the digests of rows that the adapter to go on from knows: of these only some are
    taught, as replay beside the new ones. If nothing is new, all of them are.

    Raises BadInput for rows that are too long and for target modules that the base does not have,
    Unsupported for an answer that the runtime would render otherwise, NotFound if the adapter that
    the recipe starts from is not here. Nothing is written.
    """
    base = row(db, Base, family.base)
    blob = Store(home.models).blob_path(base.blob_digest)
    with open_gguf(blob) as gguf:
        check_targets(gguf, recipe)
        tokenizer = load_tokenizer(gguf)
    # Validation rows decide when to stop. Where nothing is to be decided they teach instead: a
    # fifth more phrasings is worth more than a loss that nobody acts on.
    held = "validation" if recipe.patience else None
    teaching = [row for row in rows if row.split not in ("test", held)]
    new = [row for row in teaching if row.digest not in learned] or teaching
    if not recipe.epochs and teaching:
        recipe = recipe.model_copy(update={"epochs": float(passes(new))})
    used = [*teaching, *(row for row in rows if row.split == held)]
    rendered = render_rows(render, used)
    tokens = _tokenise(tokenizer, rendered, used)
    if recipe.distill:
        tokens = with_teachers(tokenizer, render, tokens, used)
    asked = _ask_in_other_words(tokenizer, render, teaching, rendered, tokens, recipe)
    check_lengths([*tokens, *(row for some in asked for row in some.values())], recipe.max_length)
    return Prepared(
        family=family,
        base=base,
        blob=blob,
        rows=tuple(rows),
        recipe=recipe,
        recipe_name=recipe_name,
        render=render,
        prompt_digest=prompt_digest(render),
        taught=tuple(tokens[: len(teaching)]),
        asked=asked,
        known=() if new is teaching else _places(teaching, learned),
        validated=tuple(tokens[len(teaching) :]),
        general=replayed(tokenizer, render, used) if recipe.retain else (),
        start=_start(db, home, recipe),
    )


def _places(rows: Sequence[Conversation], digests: frozenset[str]) -> tuple[int, ...]:
    return tuple(i for i, row in enumerate(rows) if row.digest in digests)


def _tokenise(
    tokenizer: "Tokenizer", rendered: Sequence[Rendered], rows: Sequence[Conversation]
) -> list[Row]:
    return [tokenise(tokenizer, r, row.answer) for r, row in zip(rendered, rows, strict=True)]


def _ask_in_other_words(
    tokenizer: "Tokenizer",
    render: Render,
    rows: Sequence[Conversation],
    rendered: Sequence[Rendered],
    taught: Sequence[Row],
    recipe: Recipe,
) -> tuple[dict[int, Row], ...]:
    passes = recombined(rows, recipe.recombine, math.ceil(recipe.epochs), recipe.seed)
    places = [(number, i) for number, asked in enumerate(passes) for i in asked]
    other = [passes[number][i] for number, i in places]
    targets = [rendered[i].target for _, i in places]
    tokens = _tokenise(tokenizer, render_behind(render, other, targets), other)
    found: tuple[dict[int, Row], ...] = tuple({} for _ in passes)
    for (number, i), stand_in in zip(places, tokens, strict=True):
        found[number][i] = replace(stand_in, teacher=taught[i].teacher)
    return found


def train(db: Database, home: Home, prepared: Prepared, dataset: Dataset, emit: Emit) -> Run:
    """Train an adapter on the frozen dataset; return the run's row, an earlier one if it is.

    A run that was interrupted goes on from its checkpoint. Beside the adapter the run's folder gets
    `reference.json`: what the trained model says to probe prompts, for the proof.

    Raises OutOfResources, Stopped or Interrupted; no row is written then.
    """
    digest = prepared.digest(dataset)
    found = newest(db, Run, family=prepared.family.name, digest=digest)
    folder = artefact(home.data("runs"), digest, "")
    if found and (folder / "adapter").is_dir():
        return found
    _plan(folder, digest, prepared, dataset)
    trainer = collect("trainers")[prepared.recipe.adapter].thing
    result: TrainResult = trainer(_job(prepared, folder), emit)
    if found and found.peft_digest == result.digest:
        return found  # its weights had been let go by gc, and are back
    emit(Note(text="asking the trained model the probe prompts, for the proof"))
    metrics = _measure(prepared, result.folder, folder)
    recipe = prepared.recipe
    stored = newest(db, RecipeText, digest=recipe.digest) or append(
        db, RecipeText(name=prepared.recipe_name, digest=recipe.digest, text=recipe.text())
    )
    return append(
        db,
        Run(
            family=prepared.family.name,
            digest=digest,
            base=prepared.base.key,
            dataset=dataset.key,
            recipe=stored.key,
            seed=recipe.seed,
            prompt_digest=prepared.prompt_digest,
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


def _plan(folder: Path, digest: str, prepared: Prepared, dataset: Dataset) -> None:
    plan = {"digest": digest, "family": prepared.family.name, "dataset": dataset.key}
    plan |= {"recipe": prepared.recipe.model_dump(mode="json")}
    plan |= {"recipe_name": prepared.recipe_name}
    write_bytes(folder / PLAN, json.dumps(plan, indent=1).encode())


def _job(prepared: Prepared, folder: Path) -> Job:
    return Job(
        base=prepared.blob,
        train=prepared.taught,
        asked=prepared.asked,
        known=prepared.known,
        valid=prepared.validated,
        recipe=prepared.recipe,
        seed=prepared.recipe.seed,
        general=prepared.general,
        start=prepared.start,
        folder=folder,
        base_digest=prepared.base.blob_digest,
        machine_file=machine_cache() / "machine.json",
    )


def _start(db: Database, home: Home, recipe: Recipe) -> Path | None:
    if not recipe.start:
        return None
    run = newest(db, Run, peft_digest=recipe.start)
    folder = artefact(home.data("runs"), run.digest, "") / "adapter" if run else None
    if folder is None or not (folder / "adapter_model.safetensors").is_file():
        raise NotFound(
            f"The adapter {recipe.start[:19]} is not here, so there is nothing to go on from.",
            mend="ask for --strategy scratch",
        )
    return folder


def _measure(prepared: Prepared, adapter: Path, folder: Path) -> dict[str, object]:
    # The model is loaded once for the proof's probes and for the perplexity of general text.
    probes = make_probes(prepared.blob, prepared.rows, prepared.render)
    text = measured_text(prepared.rows)
    reference, perplexity = measure(prepared.blob, adapter, probes, text)
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
