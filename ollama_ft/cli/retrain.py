"""Learning from the log, and unlearning: retrain, forget."""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.logs import open_home_log
from ollama_ft.cli.make import (
    base_name,
    gate_option,
    load_the_gate,
    make_lesson,
    promote_option,
    recipe_option,
    set_option,
    strategy_option,
)
from ollama_ft.cli.manners import unload_option
from ollama_ft.cli.outcome import tell_outcome
from ollama_ft.cli.tables import as_json, cut, print_json, table
from ollama_ft.cli.ways import way, way_options
from ollama_ft.core.errors import BadInput

if TYPE_CHECKING:
    from ollama_ft.loop import Lesson
    from ollama_ft.retrain import Forgetting, Plan, Wish

SHOWN = 20  # exchanges that `forget` lists


@click.command("retrain")
@click.argument("family", required=False)
@click.option("--from-logs", is_flag=True, help="Learn from what was asked through `serve`.")
@click.option("--since", default="", help="Only what was asked or rated since: v2, 7d.")
@click.option(
    "--min-rows",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="New rows below which nothing is trained.",
)
@strategy_option
@click.option(
    "--keep-context",
    is_flag=True,
    help="Learn to answer from documents in the prompt, instead of without them.",
)
@click.option(
    "--paraphrases", type=click.IntRange(0), default=0, help="Other ways to ask each, by --model."
)
@click.option("--model", help="Who puts questions in other words: any model of the runtime.")
@click.option("--dry-run", is_flag=True, help="Only say what would be learned, and why.")
@recipe_option
@set_option
@gate_option
@promote_option
@way_options
@unload_option
@as_json
@pass_context
def retrain_command(
    context: Context,
    family: str | None,
    from_logs: bool,
    since: str,
    min_rows: int,
    strategy: str,
    keep_context: bool,
    paraphrases: int,
    model: str | None,
    dry_run: bool,
    recipe: str | None,
    changes: tuple[str, ...],
    gate: str | None,
    no_promote: bool,
    route: str | None,
    packed_as: str | None,
    unload: bool,
    as_json: bool,
) -> None:
    """Train the next version from the log: corrections first, then what was liked.

    Unrated answers count only where documents were retrieved that say the same. Answers that were
    rated down are never learned. Without anything new, nothing is done.

    \b
      ollama-ft retrain --from-logs --dry-run
      ollama-ft retrain support --from-logs --since v2
    """
    _check(from_logs, paraphrases, model)
    from ollama_ft import retrain
    from ollama_ft.core import refs
    from ollama_ft.kinds.harvest.candidate import Settings

    found = refs.family(context.db, family)
    lesson = make_lesson(context, base_name(context, found), (), None, recipe, changes, gate)
    log = open_home_log(context)
    wish = retrain.Wish(
        since=since,
        min_rows=min_rows,
        strategy=strategy,
        keep_context=keep_context,
        paraphrases=paraphrases,
        model=model,
        settings=Settings(most_tokens=lesson.recipe.max_length),
    )
    if dry_run:
        _print_plan(retrain.plan(context.db, context.home, log, found, wish), as_json)
        return
    lesson = replace(lesson, way=way(route, packed_as), promote=not no_promote)
    with context.home.lock(found.name):
        planned = retrain.plan(context.db, context.home, log, found, wish)
        if planned.nothing_new:
            _print_nothing(planned, as_json)
            return
        if planned.gone and not gate:  # unlearning is no gain, and need not be one
            lesson = replace(lesson, gate=load_the_gate(context, "no-worse"))
        _carry_out(context, planned, wish, lesson, unload=unload, as_json=as_json)


def _carry_out(
    context: Context,
    planned: "Plan",
    wish: "Wish",
    lesson: "Lesson",
    *,
    unload: bool,
    as_json: bool,
) -> None:
    from ollama_ft import retrain

    if wish.strategy == "continue":
        lesson = retrain.warm(context.db, planned, lesson)
    with context.workshop(unload=unload) as shop:
        if wish.model is not None:
            planned = retrain.widen(shop, planned, wish.paraphrases, wish.model)
        tell_outcome(context, retrain.carry_out(shop, planned, lesson, wish), as_json)


def _check(from_logs: bool, paraphrases: int, model: str | None) -> None:
    if not from_logs:
        raise BadInput("Say what to learn from.", mend="ollama-ft retrain --from-logs")
    if bool(paraphrases) != (model is not None):
        raise BadInput("--paraphrases N and --model NAME go together.")


def _print_nothing(planned: "Plan", as_json: bool) -> None:
    made = planned.done.tag if planned.done else None
    if as_json:
        print_json({"nothing_new": True, "version": made, "exchanges": planned.exchanges})
    else:
        click.echo("nothing new to learn" + (f": {made} was made of these rows" if made else ""))


def _print_plan(planned: "Plan", as_json: bool) -> None:
    """Print what would be learned; exit 4 if it is too little."""
    if as_json:
        print_json(_plan_json(planned))
    else:
        _print_plan_text(planned)
    if not planned.nothing_new and planned.missing:
        click.get_current_context().exit(4)


def _print_plan_text(planned: "Plan") -> None:
    sifted = planned.sifted
    click.echo(
        f"{planned.exchanges} exchanges of {planned.family.name} in the log; "
        f"{planned.candidates} are looked at: rated, or answered from documents"
    )
    if planned.passed_over:
        click.echo(f"{planned.passed_over} older ones that nobody rated are passed over")
    click.echo()
    table(
        ["RULE", "IN", "OUT", "LEFT", "FOR EXAMPLE"],
        [
            [
                step.rule,
                str(step.came),
                str(step.came - step.stayed),
                str(step.stayed),
                "; ".join(f"{cut(x.candidate.row.question, 40)} ({x.why})" for x in step.examples),
            ]
            for step in sifted.steps
        ],
        right=["IN", "OUT", "LEFT"],
    )
    for conflict in sifted.conflicts:
        click.echo(f"\nconflict  {cut(conflict.question)}")
        click.echo(f"  stands  {cut(conflict.stands)}\n  not     {cut(conflict.other)}")
    click.echo(f"\nnew       {planned.fresh} rows, {planned.gone} fewer of those before")
    click.echo(f"negative  {len(sifted.negatives)} answers kept as what not to say")
    if planned.nothing_new:
        _print_nothing(planned, as_json=False)
    elif planned.missing:
        click.echo(f"missing   {planned.few}")
    else:
        frozen = planned.frozen
        click.echo(f"dataset   {len(frozen.rows)} rows, {frozen.count('test')} of them to test")
        click.echo("next      the same without --dry-run")


def _plan_json(planned: "Plan") -> dict[str, object]:
    sifted = planned.sifted
    return {
        "family": planned.family.name,
        "exchanges": planned.exchanges,
        "candidates": planned.candidates,
        "passed_over": planned.passed_over,
        "rules": [
            {
                "rule": step.rule,
                "in": step.came,
                "left": step.stayed,
                "changed": step.changed,
                "examples": [
                    {
                        "exchange": x.candidate.uid,
                        "question": x.candidate.row.question,
                        "why": x.why,
                    }
                    for x in step.examples
                ],
            }
            for step in sifted.steps
        ],
        "conflicts": [vars(conflict) for conflict in sifted.conflicts],
        "negatives": len(sifted.negatives),
        "new": planned.fresh,
        "gone": planned.gone,
        "missing": planned.missing,
        "nothing_new": planned.nothing_new,
        "rows": len(planned.frozen.rows),
        "test": planned.frozen.count("test"),
    }


@click.command("forget")
@click.argument("refs", nargs=-1, metavar="[ID]…")
@click.option("--client", default="", help="All that this client asked.")
@click.option("--match", default="", help="All with these words, in question or answer.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json
@pass_context
def forget_command(
    context: Context,
    refs: tuple[str, ...],
    client: str,
    match: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete exchanges from the log, and say which versions had learned from them.

    A version keeps what it learned. `retrain --from-logs` makes one without it.

    \b
      ollama-ft forget 1234
      ollama-ft forget --match "opening hours" --dry-run
    """
    from ollama_ft import retrain
    from ollama_ft.stages.forget import find

    log = open_home_log(context)
    found = find(log, refs, client, match)
    told = retrain.forget(context.db, context.home, log, found, dry_run=True)
    if not as_json:
        _print_forgetting(told)
    if not dry_run:
        if not (yes or as_json):
            click.confirm(f"Delete {len(found)} exchanges?", abort=True)
        told = retrain.forget(context.db, context.home, log, found)
    if as_json:
        print_json(_forgetting_json(told))
    elif not dry_run:
        click.echo(f"deleted   {told.deleted} exchanges")
        for family in sorted({version.family for version in told.versions}):
            click.echo(f"next      ollama-ft retrain {family} --from-logs")


def _print_forgetting(told: "Forgetting") -> None:
    for one in told.found[:SHOWN]:
        click.echo(f"{one.id}  {one.family}  {cut(one.question)}")
    if len(told.found) > SHOWN:
        click.echo(f"… and {len(told.found) - SHOWN} more")
    live = {version.key for version in told.live}
    learned = [v.tag + (" (live)" if v.key in live else "") for v in told.versions]
    click.echo(f"learned   {', '.join(learned) or 'no version has learned from these'}")
    for name, count in told.suites.items():
        click.echo(f"suite     {name} asks {count} of them; it is asked without them from then on")


def _forgetting_json(told: "Forgetting") -> dict[str, object]:
    return {
        "exchanges": [vars(one) for one in told.found],
        "versions": [version.tag for version in told.versions],
        "live": [version.tag for version in told.live],
        "suites": dict(told.suites),
        "deleted": told.deleted,
    }
