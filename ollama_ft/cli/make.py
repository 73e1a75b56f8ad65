"""Commands that make versions: new, train, resume, eval."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.manners import unload_option
from ollama_ft.cli.outcome import evaluation_json, print_evaluation, tell_outcome
from ollama_ft.cli.reading import reading_options
from ollama_ft.cli.tables import as_json, print_json
from ollama_ft.cli.ways import way, way_options
from ollama_ft.core.errors import BadInput, NotFound

if TYPE_CHECKING:
    from ollama_ft.core.records import Family
    from ollama_ft.kinds.containers import Reading
    from ollama_ft.kinds.modelfiles import Start
    from ollama_ft.loop import Lesson
    from ollama_ft.stages.gate import Gate
    from ollama_ft.workshop import Workshop

data_option = click.option(
    "--data",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Questions with answers: JSONL, CSV, Parquet …; may be given several times.",
)
recipe_option = click.option("--recipe", help="A recipe's name, or a YAML file.")
gate_option = click.option("--gate", help="When it may go live: a gate's name, or a YAML file.")
promote_option = click.option(
    "--no-promote", is_flag=True, help="Keep it as a candidate, whatever the gate says."
)
strategy_option = click.option(
    "--strategy",
    type=click.Choice(["scratch", "continue"]),
    default="scratch",
    help="Train anew on all rows, or go on from the live version's adapter: shorter.",
)
set_option = click.option(
    "--set", "changes", metavar="KEY=VALUE", multiple=True, help="Change a key of the recipe."
)


@click.command("new")
@click.argument("family", required=False)
@click.option("--from", "base", metavar="MODEL", help="An Ollama model, or a GGUF.")
@click.option(
    "--modelfile",
    type=click.Path(path_type=Path),
    help="Begin with its SYSTEM, TEMPLATE, PARAMETERs and, without --from, its FROM.",
)
@data_option
@reading_options
@recipe_option
@set_option
@gate_option
@click.option("--system", help="The system message of every version; else the base's own.")
@click.option("--parameter", "parameters", metavar="KEY=VALUE", multiple=True, help="As in Ollama.")
@way_options
@unload_option
@as_json
@pass_context
def new_command(
    context: Context,
    family: str | None,
    base: str | None,
    modelfile: Path | None,
    files: tuple[Path, ...],
    reading: "Reading",
    recipe: str | None,
    changes: tuple[str, ...],
    gate: str | None,
    system: str | None,
    parameters: tuple[str, ...],
    route: str | None,
    packed_as: str | None,
    unload: bool,
    as_json: bool,
) -> None:
    """Start a family on a base; with --data, train v1.

    \b
      ollama-ft new --from qwen2.5:0.5b
      ollama-ft new support --from smollm2:135m --data faq.jsonl
      ollama-ft new kefu --from qwen2.5:0.5b --modelfile kefu-zh.Modelfile
    """
    from ollama_ft import loop
    from ollama_ft.stages.family import check_name, derive_name

    start = _start(base, modelfile, system, parameters)
    name = family or derive_name(start.base)
    check_name(name)
    chosen = way(route, packed_as)
    lesson = None
    _check_used(files, recipe, changes, gate)
    if files:
        lesson = replace(
            make_lesson(context, start.base, files, reading, recipe, changes, gate), way=chosen
        )
    with context.home.lock(name), context.workshop(unload=unload) as shop:
        row = _begun(shop, name, start)
        if not family and not as_json:
            click.echo(f"family {name} (no name was given, so it is the base's with -ft)")
        if lesson is None:
            _tell_bare(context, name, as_json)
        else:
            tell_outcome(context, loop.teach(shop, row, lesson), as_json)


def _start(
    base: str | None, modelfile: Path | None, system: str | None, parameters: tuple[str, ...]
) -> "Start":
    """What the options and the Modelfile say; the options win."""
    from ollama_ft.kinds.modelfiles import Start, read_start

    said = read_start(modelfile) if modelfile else Start(base="")
    values = {key: _parameter(key, text) for key, text in _pairs("--parameter", parameters).items()}
    start = replace(
        said,
        base=base or said.base,
        system=said.system if system is None else system,
        parameters={**said.parameters, **values},
    )
    if not start.base:
        raise BadInput(
            f"{modelfile} leaves the base open." if modelfile else "No base is named.",
            mend="name it: --from MODEL",
        )
    return start


def _begun(shop: "Workshop", name: str, start: "Start") -> "Family":
    """The family, begun; what its prompt would lose in a Modelfile of Ollama's is told."""
    from ollama_ft import loop
    from ollama_ft.core.catalog import row
    from ollama_ft.core.events import Note
    from ollama_ft.core.records import Base
    from ollama_ft.kinds.modelfiles import modelfile_of

    for note in start.notes:
        shop.emit(Note(text=note))
    family = loop.new(
        shop,
        name,
        start.base,
        system=start.system,
        template=start.template,
        parameters=start.parameters,
    )
    for loss in modelfile_of(family, row(shop.db, Base, family.base)).losses():
        shop.emit(Note(text=f"kept here, but not by Ollama's own parser of Modelfiles: {loss}"))
    return family


def _tell_bare(context: Context, name: str, as_json: bool) -> None:
    from ollama_ft.core.refs import live

    found = live(context.db, name)
    assert found is not None, "loop.new promotes v0"
    if as_json:
        print_json({"family": name, "live": found.version.tag})
        return
    click.echo(f"{found.version.tag} is live: the bare base, to be taught")
    click.echo(f"next: ollama-ft train {name} --data faq.jsonl")


def _check_used(
    files: tuple[Path, ...], recipe: str | None, changes: tuple[str, ...], gate: str | None
) -> None:
    if not files and (recipe or changes or gate):
        raise BadInput(
            "--recipe, --set and --gate say how v1 is trained, and there is no --data to train on.",
            mend="add --data faq.jsonl, or leave them for: ollama-ft train",
        )


@click.command("train")
@click.argument("family", required=False)
@data_option
@reading_options
@click.option("--anew", is_flag=True, help="Learn from --data alone, not from earlier data too.")
@strategy_option
@recipe_option
@set_option
@gate_option
@promote_option
@way_options
@unload_option
@as_json
@pass_context
def train_command(
    context: Context,
    family: str | None,
    files: tuple[Path, ...],
    reading: "Reading",
    anew: bool,
    strategy: str,
    recipe: str | None,
    changes: tuple[str, ...],
    gate: str | None,
    no_promote: bool,
    route: str | None,
    packed_as: str | None,
    unload: bool,
    as_json: bool,
) -> None:
    """Train the next version from what the live one learned and --data.

    It becomes live if it is proved and passes the gate; else it is kept as a candidate.

    \b
      ollama-ft train --data more.jsonl
      ollama-ft train --data more.jsonl --strategy continue
      ollama-ft train support --set epochs=8
    """
    from ollama_ft import loop, onward
    from ollama_ft.core import refs
    from ollama_ft.stages.dataset import newest_here

    found = refs.family(context.db, family)
    lesson = make_lesson(context, base_name(context, found), files, reading, recipe, changes, gate)
    lesson = replace(lesson, anew=anew, way=way(route, packed_as), promote=not no_promote)
    with context.home.lock(found.name), context.workshop(unload=unload) as shop:
        if strategy == "continue":
            lesson = onward.warm(context.db, found, lesson)
        if files:
            outcome = loop.teach(shop, found, lesson)
        else:
            dataset = newest_here(context.db, context.home, found.name)
            if dataset is None:
                raise NotFound(
                    f"{found.name} has no data yet.",
                    mend=f"ollama-ft train {found.name} --data faq.jsonl",
                )
            outcome = loop.again(shop, found, dataset, lesson)
        tell_outcome(context, outcome, as_json)


@click.command("resume")
@click.argument("family", required=False)
@gate_option
@unload_option
@as_json
@pass_context
def resume_command(
    context: Context, family: str | None, gate: str | None, unload: bool, as_json: bool
) -> None:
    """Go on with an interrupted training, from its checkpoint."""
    from ollama_ft import loop
    from ollama_ft.core import refs

    found = refs.family(context.db, family)
    with context.home.lock(found.name), context.workshop(unload=unload) as shop:
        outcome = loop.resume(shop, found, load_the_gate(context, gate))
        tell_outcome(context, outcome, as_json)


@click.command("eval")
@click.argument("ref", required=False)
@click.option("--suite", "suites", multiple=True, help="Ask this suite instead; repeatable.")
@click.option("--metric", "metrics", multiple=True, help="Measure this too; repeatable.")
@as_json
@pass_context
def eval_command(
    context: Context,
    ref: str | None,
    suites: tuple[str, ...],
    metrics: tuple[str, ...],
    as_json: bool,
) -> None:
    """Ask a version the questions kept for it; score the answers.

    `ollama-ft plugins` lists the metrics. What was answered once is not asked again.

    \b
      ollama-ft eval v2 --metric chrf --metric rouge_l --metric perplexity
      ollama-ft eval v2 --suite general
    """
    from ollama_ft import compare
    from ollama_ft.core.refs import resolve

    version = resolve(context.db, ref)
    with context.home.lock(version.family), context.workshop() as shop:
        found = compare.measure(shop, version, metrics, suites)
    if as_json:
        told = [evaluation_json(version, one) | {"measured": measured} for one, measured in found]
        print_json({"evaluations": told} if suites else told[0])
        return
    for evaluation, measured in found:
        print_evaluation(version, evaluation, measured)


def base_name(context: Context, family: "Family") -> str:
    """The name of the base that a family stands on."""
    from ollama_ft.core.catalog import row
    from ollama_ft.core.records import Base

    return row(context.db, Base, family.base).name


def make_lesson(
    context: Context,
    base: str,
    files: tuple[Path, ...],
    reading: "Reading | None",
    recipe: str | None,
    changes: tuple[str, ...],
    gate: str | None,
) -> "Lesson":
    """What is to be taught, from a command's options; `reading` None reads files as they are."""
    from ollama_ft.core.recipe import load_recipe
    from ollama_ft.kinds.containers import Reading, parts
    from ollama_ft.loop import Lesson
    from ollama_ft.stages.base import default_recipe

    reading = reading or Reading()
    for file in files:
        parts(file, reading)
    name = recipe or context.setting("recipe") or default_recipe(context.home, base)
    return Lesson(
        files=files,
        reading=reading,
        recipe=load_recipe(name, context.home.texts("recipes"), _pairs("--set", changes)),
        recipe_name=name,
        gate=load_the_gate(context, gate),
    )


def load_the_gate(
    context: Context, name: str | None, accepted: Mapping[str, str] | None = None
) -> "Gate":
    """The gate of this name (None: the setting's), with what somebody accepts."""
    from ollama_ft.core.gates import load_gate
    from ollama_ft.stages.gate import Gate

    name = name or context.setting("gate")
    rules = load_gate(name, context.home.texts("gates"))
    return Gate(name=name, rules=rules, accepted=accepted or {})


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadInput(f"{option} {text!r} is not KEY=VALUE.")
        pairs[key.strip()] = value.strip()
    return pairs


def _parameter(name: str, text: str) -> object:
    """A parameter's value; stop may be a JSON list. Raises BadInput for what Ollama has not."""
    import json

    from ollama_ft.runtime.modelfile import typed

    if name != "stop":
        return typed(name, text)
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return text
    return found if isinstance(found, list) and all(isinstance(s, str) for s in found) else text
