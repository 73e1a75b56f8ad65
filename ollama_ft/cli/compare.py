"""Commands that set two versions against each other: compare, rate."""

import shlex
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import as_json, print_json
from ollama_ft.core.errors import BadInput

if TYPE_CHECKING:
    from ollama_ft.compare import Comparison
    from ollama_ft.core.records import Version
    from ollama_ft.kinds.pairs import Pair


SCALE = "relevance, fluency, expertise, from 1 (bad) to 5 (good): 5 4 3"
KEYS = "s skips a question, q stops; what you rated is kept"


@click.command("compare")
@click.argument("first")
@click.argument("second")
@click.option("--judge", metavar="MODEL", help="Let this model judge every pair, in both orders.")
@click.option("--stored", is_flag=True, help="Ask nothing: what both were asked already.")
@click.option("--all", "everything", is_flag=True, help="Show every question, draws too.")
@click.option("--md", is_flag=True, help="Print Markdown, for pasting.")
@as_json
@pass_context
def compare_command(
    context: Context,
    first: str,
    second: str,
    judge: str | None,
    stored: bool,
    everything: bool,
    md: bool,
    as_json: bool,
) -> None:
    """Set two versions' answers side by side, and count who won.

    What was answered, judged and rated before is read from the catalog; the runtime is asked only
    for what is missing.

    \b
      ollama-ft compare v1 v2
      ollama-ft compare v0 v2 --judge qwen2.5:7b --md
    """
    from ollama_ft.cli import sides

    if judge and stored:
        raise BadInput("A judge has to be asked, and --stored asks nothing.", mend="leave one out")
    found = _compare(context, *_two(context, first, second), judge, stored)
    if as_json:
        print_json(sides.as_object(found))
    elif md:
        click.echo(sides.as_markdown(found, everything))
    else:
        sides.show(found, everything)


def _two(context: Context, first: str, second: str) -> tuple["Version", "Version"]:
    from ollama_ft.core.refs import resolve

    one, two = resolve(context.db, first), resolve(context.db, second)
    if one.id == two.id:
        raise BadInput(f"{first} and {second} are the same version.", mend="ollama-ft list")
    return one, two


def _compare(
    context: Context, one: "Version", two: "Version", judge: str | None, stored: bool
) -> "Comparison":
    from ollama_ft import compare

    if judge or (not stored and compare.lacking(context.db, context.home, one, two)):
        with context.home.lock(one.family), context.workshop() as shop:
            compare.catch_up(shop, one, two)
            if judge:
                compare.ask_judge(shop, judge, one, two)
    return compare.compare(context.db, context.home, one, two)


@click.command("rate")
@click.argument("first")
@click.argument("second")
@click.option("--rater", default="me", show_default=True, help="Who rates; each has own rows.")
@click.option("--seed", default=0, show_default=True, help="Decides the order of questions.")
@pass_context
def rate_command(context: Context, first: str, second: str, rater: str, seed: int) -> None:
    """Rate two versions' answers without knowing whose they are.

    Each question comes with both answers, in an order that the seed shuffles. Give each three
    marks from 1 to 5: relevance, fluency, expertise. Stop whenever you like: the same command goes
    on where you stopped.
    """
    from ollama_ft.stages.rate import rate, unrated

    one, two = _two(context, first, second)
    pairs = _compare(context, one, two, None, stored=False).pairs
    left = unrated(context.db, one, two, pairs, rater=rater, seed=seed)
    click.echo(f"{len(left)} of {len(pairs)} questions to rate. {SCALE}.\n{KEYS}.")
    rated = 0
    for place, (pair, turned) in enumerate(left, start=1):
        try:
            marks = _ask(pair, turned, f"{place}/{len(left)}")
        except (click.Abort, EOFError):
            break
        if marks:
            rate(context.db, one, two, pair, marks=marks, turned=turned, rater=rater)
            rated += 1
    again = f"ollama-ft rate {one.tag} {two.tag}"
    again += "" if rater == "me" else f" --rater {shlex.quote(rater)}"
    again += f" --seed {seed}" if seed else ""
    _say_end(one, two, rated, len(left), again)


def _ask(
    pair: "Pair", turned: bool, place: str
) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """The marks of the answer that is shown first, and of the other; None if it was skipped."""
    from ollama_ft.cli.tables import harmless

    shown = (pair.second, pair.first) if turned else (pair.first, pair.second)
    click.echo(f"\n{place}  {harmless(pair.question)}")
    if pair.expected:
        click.echo(f"reference: {harmless(pair.expected)}")
    if pair.same:
        click.echo(f"\n[both say the same]\n{harmless(shown[0])}\n")
        marks = _ask_marks("both")
        return None if marks is None else (marks, marks)
    for number, answer in enumerate(shown, start=1):
        click.echo(f"\n[answer {number}]\n{harmless(answer)}")
    click.echo()
    one = _ask_marks("answer 1")
    two = None if one is None else _ask_marks("answer 2")
    return None if one is None or two is None else (one, two)


def _ask_marks(what: str) -> tuple[int, int, int] | None:
    from ollama_ft.kinds.ratings import read_marks

    while True:
        typed = click.prompt(what, prompt_suffix="> ").strip()
        if typed.casefold() in ("q", "quit"):
            raise click.Abort
        if typed.casefold() in ("s", "skip"):
            return None
        try:
            return read_marks(typed)
        except BadInput as error:
            click.echo(f"{error} Or s to skip, q to stop.")


def _say_end(one: "Version", two: "Version", rated: int, left: int, again: str) -> None:
    click.echo(f"\n{rated} rated and kept.")
    if rated < left:
        click.echo(f"{left - rated} left. Go on: {again}")
    else:
        click.echo(f"All rated. See whose they were: ollama-ft compare {one.tag} {two.tag}")
