"""What people think of answers: feedback, review."""

from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.logs import open_home_log, plain
from ollama_ft.cli.tables import as_json, cut, harmless, print_json, table
from ollama_ft.core.errors import BadInput

if TYPE_CHECKING:
    from ollama_ft.core.log_records import Exchange
    from ollama_ft.core.sqlite import Database
    from ollama_ft.serve.queue import Case

by_option = click.option("--by", default="you", help="Whose opinion it is.")


@click.command("feedback")
@click.argument("ref")
@click.argument("rating", required=False, type=click.Choice(["up", "down"]))
@click.option("--correct", metavar="TEXT", default="", help="The answer as it should have been.")
@click.option("--redact/--no-redact", default=True, help="Take out what is personal, or not.")
@by_option
@as_json
@pass_context
def feedback_command(
    context: Context,
    ref: str,
    rating: str | None,
    correct: str,
    redact: bool,
    by: str,
    as_json: bool,
) -> None:
    """Say whether an answer was good, or what it should have been.

    \b
      ollama-ft feedback last up
      ollama-ft feedback 1234 --correct "We open at nine."

    The newest opinion is what counts; the older ones stay in the log.
    """
    if bool(rating) == bool(correct.strip()):
        raise BadInput("Say up, down, or --correct TEXT.", mend="ollama-ft feedback last up")
    from ollama_ft.core.logbook import find_exchange

    log = open_home_log(context)
    exchange = find_exchange(log, ref)
    said = _rate(log, exchange, rating or "", correct, by, redact=redact)
    if as_json:
        print_json({"id": exchange.id, "uid": exchange.uid, "rating": said})
    else:
        click.echo(f"{exchange.id}: {said}")


def _rate(
    log: "Database", exchange: "Exchange", rating: str, correct: str, by: str, *, redact: bool
) -> str:
    from ollama_ft.core.exchange import Rated, verdict_of
    from ollama_ft.core.logbook import Pen

    rated = Rated(uid=exchange.uid, verdict=verdict_of(rating, correct, by))
    if redact and correct:
        from ollama_ft.serve.redaction import clean_rating

        rated = clean_rating(rated)
    Pen(log).write([rated])
    return rated.verdict.rating


@click.command("review")
@click.option("--family", help="Only this family.")
@click.option(
    "-n", "most", type=click.IntRange(1), default=20, show_default=True, help="How many at most."
)
@click.option("--list", "only_list", is_flag=True, help="Print the queue, ask nothing.")
@by_option
@as_json
@pass_context
def review_command(
    context: Context, family: str | None, most: int, only_list: bool, by: str, as_json: bool
) -> None:
    """Go through the answers that are worth a minute of yours, by keyboard.

    First those rated down and not corrected, then unrated ones: frequent questions, unsure
    answers, long ones.
    """
    from ollama_ft.core import refs
    from ollama_ft.serve.queue import queue

    log = open_home_log(context)
    cases = queue(log, family, most)
    if family and not cases:
        refs.family(context.db, family)  # says so if there is none of this name
    if as_json:
        rows = [plain(c.row) | {"why": c.why, "times": c.times} for c in cases]
        print_json({"queue": rows})
    elif only_list:
        table(
            ["ID", "WHY", "QUESTION", "ANSWER"],
            [
                [str(c.row["id"]), c.why, cut(c.row["question_text"]), cut(c.row["answer"])]
                for c in cases
            ],
        )
    elif not cases:
        click.echo("Nothing to review.")
    else:
        _review(log, cases, by)


def _review(log: "Database", cases: "list[Case]", by: str) -> None:
    from ollama_ft.core.logbook import find_exchange

    done = at = 0
    while at < len(cases):
        case = cases[at]
        head = f"\n[{at + 1}/{len(cases)}] {case.row['version']}: {case.why}"
        click.secho(harmless(head), dim=True)
        click.secho(harmless(case.row["question_text"]), bold=True)
        click.echo(harmless(case.row["answer"]) or "(no answer)")
        click.secho("u up · d down · c correct · s skip · b back · q quit ", dim=True, nl=False)
        key = _key()
        click.echo()
        if key in ("q", "\x1b"):
            break
        if key == "b":
            at = max(0, at - 1)
            continue
        correct = _corrected(case.row["answer"]) if key == "c" else ""
        if key in ("u", "d") or correct:
            rating = {"u": "up", "d": "down"}.get(key, "")
            exchange = find_exchange(log, str(case.row["id"]))
            click.echo(_rate(log, exchange, rating, correct, by, redact=True))
            done += 1
        elif key not in ("s", " "):
            continue
        at += 1
    click.echo(f"{done} rated.")


def _key() -> str:
    """The key that was pressed; Ctrl-C, Ctrl-D and a terminal that is gone are q.

    Raises BadInput where there is no terminal.
    """
    try:
        return click.getchar().lower() or "q"
    except (EOFError, KeyboardInterrupt):
        return "q"
    except OSError as error:
        raise BadInput(
            "There is no terminal here to press a key at.",
            mend="ollama-ft review --list, then ollama-ft feedback ID up",
        ) from error


def _corrected(answer: str) -> str:
    """The answer after its correction; "" if it was left as it is."""
    import os

    if os.environ.get("VISUAL") or os.environ.get("EDITOR"):
        edited = (click.edit(answer) or "").strip()
        return "" if edited == answer.strip() else edited
    return str(click.prompt("It should be (empty: leave it)", default="", show_default=False))
