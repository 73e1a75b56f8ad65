"""What was asked and answered: logs, logs show, logs import."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import age, as_json, cut, harmless, print_json, size, table

if TYPE_CHECKING:
    from ollama_ft.core.log_records import Exchange
    from ollama_ft.core.sqlite import Database


MARKS = {"up": "+", "down": "-", "corrected": "c", None: ""}


@click.group("logs", invoke_without_command=True)
@click.option("-q", "--query", default="", help='Words in question or answer; "…" is a phrase.')
@click.option("--family", default="", help="Only this family.")
@click.option("--version", default="", help="Only this version: support:v3, v3.")
@click.option("--since", default="", help="A date, or how long ago: 7d, 12h, 2w.")
@click.option(
    "--feedback",
    type=click.Choice(["up", "down", "corrected", "any", "none"]),
    help="Only what was rated so.",
)
@click.option("--client", default="", help="Only this client.")
@click.option("--incomplete", is_flag=True, help="Only answers that broke off.")
@click.option(
    "-n",
    "most",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many at most; 0: all.",
)
@click.option("--status", "figures", is_flag=True, help="How the log does, and what was lost.")
@as_json
@click.pass_context
def logs_command(
    ctx: click.Context,
    query: str,
    family: str,
    version: str,
    since: str,
    feedback: str | None,
    client: str,
    incomplete: bool,
    most: int,
    figures: bool,
    as_json: bool,
) -> None:
    """List what was asked and answered, newest first; search it.

    \b
      ollama-ft logs -q refund --since 7d
      ollama-ft logs -q 退货 --feedback down
      ollama-ft logs show last
    """
    if ctx.invoked_subcommand:
        return
    from ollama_ft.core import refs
    from ollama_ft.core.logsearch import Wish, moment, search

    context = ctx.obj
    log = open_home_log(context)
    if figures:
        _print_status(_status(context, log), as_json)
        return
    wish = Wish(
        words=query,
        family=family,
        version=_tag(context, version, family) if version else "",
        since=moment(since) if since else "",
        rating=feedback or "",
        client=client,
        status="incomplete" if incomplete else "",
        most=most or None,
    )
    rows = search(log, wish)
    if family and not rows:
        refs.family(context.db, family)  # says so if there is none of this name
    if as_json:
        print_json({"exchanges": [plain(row) for row in rows]})
        return
    _print_rows(rows)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    table(
        ["ID", "WHEN", "VERSION", "CLIENT", "", "QUESTION", "ANSWER"],
        [
            [
                str(row["id"]),
                age(row["at"]),
                row["version"] or row["model"],
                cut(row["client"], 20),
                MARKS[row["rating"]] + ("" if row["status"] == "complete" else "!"),
                cut(row["question_text"]),
                cut(row["answer"] or row["error"]),
            ]
            for row in rows
        ],
    )


@logs_command.command("show")
@click.argument("ref")
@as_json
@pass_context
def logs_show(context: Context, ref: str, as_json: bool) -> None:
    """Show one exchange whole: the conversation, the answer, the feedback.

    REF is the number in the list, the id from an answer's header, or `last`.
    """
    from ollama_ft.core.catalog import every
    from ollama_ft.core.log_records import Feedback
    from ollama_ft.core.logbook import conversation, find_exchange

    log = open_home_log(context)
    exchange = find_exchange(log, ref)
    turns = conversation(log, exchange.reply or exchange.prompt)
    ratings = every(log, Feedback, exchange=exchange.key)
    if as_json:
        body = _columns(exchange)
        body["messages"] = [{"role": t.role, "content": t.content} | dict(t.extra) for t in turns]
        body["feedback"] = [
            {"at": f.at, "rating": f.rating, "correction": f.correction, "by": f.by}
            for f in ratings
        ]
        print_json(body)
        return
    _print_facts(exchange)
    for turn in turns:
        _say(f"\n{turn.role}: {turn.content}")
        if turn.extra:
            _say(json.dumps(turn.extra, ensure_ascii=False))
    if exchange.thinking:
        _say(f"\nthinking: {exchange.thinking}")
    for opinion in ratings:
        _say(f"\n{opinion.rating} by {opinion.by or 'somebody'}, {age(opinion.at)}")
        if opinion.correction:
            _say(opinion.correction)


def _say(text: str) -> None:
    click.echo(harmless(text))


def _columns(exchange: "Exchange") -> dict[str, object]:
    from dataclasses import asdict

    body = asdict(exchange)
    for name in ("options_json", "context_json"):
        body[name.removesuffix("_json")] = json.loads(body.pop(name))
    return {k: v for k, v in body.items() if k not in ("prompt", "question", "reply")}


def _print_facts(exchange: "Exchange") -> None:
    tokens = f"{exchange.prompt_tokens or '?'} + {exchange.answer_tokens or '?'} tokens"
    times = (
        f"{exchange.first_ms or 0:.0f} ms to the first byte, {exchange.total_ms or 0:.0f} in all"
    )
    facts = [
        ("id", f"{exchange.id} ({exchange.uid})"),
        ("when", f"{exchange.at} ({age(exchange.at)})"),
        ("answered by", f"{exchange.version or exchange.model} {exchange.version_digest[:19]}"),
        ("asked as", exchange.model),
        ("client", exchange.client),
        ("from", " ".join(filter(None, (exchange.source, exchange.place or exchange.path)))),
        ("status", f"{exchange.status} {exchange.done_reason or exchange.error}"),
        ("took", f"{tokens}; {times}" if exchange.total_ms is not None else tokens),
        ("options", exchange.options_json if exchange.options_json != "{}" else ""),
        ("context", exchange.context_json if exchange.context_json != "[]" else ""),
    ]
    for name, value in facts:
        if value.strip():
            _say(f"{name:<12} {value}")


@logs_command.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--source", help="llm, open-webui, jsonl, or a plugin's; else found by looking.")
@click.option("--family", help="Whose answers these are, where the model's name does not say.")
@click.option("--redact/--no-redact", default=True, help="Take out what is personal, or not.")
@as_json
@pass_context
def logs_import(
    context: Context,
    files: tuple[Path, ...],
    source: str | None,
    family: str | None,
    redact: bool,
    as_json: bool,
) -> None:
    """Bring in what you have: Open WebUI exports, llm's logs.db, JSONL.

    Ratings come along. Importing a file again adds nothing but ratings that are new.
    """
    from ollama_ft.core import refs
    from ollama_ft.serve.importing import bring
    from ollama_ft.serve.names import Names
    from ollama_ft.serve.redaction import clean

    if family:
        family = refs.family(context.db, family).name
    log, names = open_home_log(context), Names(context.home.catalog)
    done = []
    for path in files:
        came = bring(
            log, names, path, source=source, family=family, clean=clean if redact else None
        )
        done.append((path, came))
        if not as_json:
            click.echo(
                f"{path}: {came.new} new, {came.known} known already, "
                f"{came.passed_over} without an answer ({came.source})"
            )
    if as_json:
        rows = [{"file": str(path)} | vars(came) for path, came in done]
        print_json({"imported": rows})


# What they share


def open_home_log(context: Context) -> "Database":
    """The home's log. Raises what core/machine.py makes of one that cannot be used."""
    import sqlite3

    from ollama_ft.core.logbook import open_log
    from ollama_ft.core.machine import refusal

    try:
        return open_log(context.home.log)
    except sqlite3.OperationalError as error:
        raise refusal(error, str(context.home.log)) or error from error


def _tag(context: Context, version: str, family: str) -> str:
    """The tag of a version; what names none of ours is looked for as it was written."""
    from ollama_ft.core.errors import FtError
    from ollama_ft.core.refs import resolve

    ref = f"{family}:{version}" if family and ":" not in version else version
    try:
        return resolve(context.db, ref).tag
    except FtError:
        return version


def _status(context: Context, log: "Database") -> dict[str, Any]:
    from dataclasses import asdict

    from ollama_ft.core.logbook import stored
    from ollama_ft.serve.counts import read_counts

    path = context.home.log
    begun, losses = read_counts(path.with_suffix(".counts"))
    spool = path.with_suffix(".spool")
    kinds = log.query("select status, count(*) as n from exchanges group by status")
    came = stored(log)
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "exchanges": {row["status"]: row["n"] for row in kinds},
        "messages": log.table("messages").count,
        "feedback": log.table("feedback").count,
        "begun": begun,
        "stored": came,
        "spooled_bytes": spool.stat().st_size if spool.exists() else 0,
        "under_way": max(0, begun - came - losses.total),
        "lost": losses.total,
        **{f"lost_{name}": value for name, value in asdict(losses).items()},
    }


def _print_status(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(figures)
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in figures["exchanges"].items())
    click.echo(f"log        {figures['path']}, {size(figures['bytes'])}")
    click.echo(f"exchanges  {kinds or 'none yet'}; {figures['messages']} different messages")
    click.echo(f"feedback   {figures['feedback']}")
    click.echo(f"spool      {size(figures['spooled_bytes'])} on the way")
    click.echo(
        f"serve      {figures['begun']} questions came, {figures['stored']} are stored, "
        f"{figures['under_way']} under way or not yet counted as lost"
    )
    click.echo(
        f"lost       {figures['lost']}: {figures['lost_full']} queue full, "
        f"{figures['lost_unwritten']} not writable, {figures['lost_killed']} with a killed process"
        f"; and {figures['lost_feedback']} opinions"
    )


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row of exchanges_view as JSON shows it."""
    body = {k: v for k, v in row.items() if k not in ("prompt", "question", "reply")}
    for name in ("options_json", "context_json"):
        body[name.removesuffix("_json")] = json.loads(body.pop(name))
    body["question"] = body.pop("question_text")
    return body
