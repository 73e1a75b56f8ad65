"""Commands about suites: list, show, add."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import as_json, harmless, print_json, short, table
from ollama_ft.core.errors import BadInput

if TYPE_CHECKING:
    from ollama_ft.questions import Chosen


@click.group("suite")
def suite_command() -> None:
    """Questions that versions are judged by, and never trained on."""


@suite_command.command("list")
@click.argument("family", required=False)
@as_json
@pass_context
def suite_list(context: Context, family: str | None, as_json: bool) -> None:
    """Show the suites that a family is asked."""
    from ollama_ft.core import refs
    from ollama_ft.stages.suite import known

    name = refs.family(context.db, family).name
    suites = known(context.db, context.home, name)
    if as_json:
        body = [
            {"name": s.name, "kind": s.kind, "family": s.family, "digest": s.digest}
            | {"questions": len(s.questions), "source": s.source}
            for s in suites
        ]
        print_json({"family": name, "suites": body})
        return
    table(
        ["NAME", "KIND", "ASKED OF", "QUESTIONS", "ID", "FROM"],
        [
            [s.name, s.kind, s.family or "all", str(len(s.questions)), short(s.digest), s.source]
            for s in suites
        ],
        right=("QUESTIONS",),
    )


@suite_command.command("show")
@click.argument("suite")
@click.option("--family", help="The family; else the current one.")
@as_json
@pass_context
def suite_show(context: Context, suite: str, family: str | None, as_json: bool) -> None:
    """Show a suite's questions with what is right and wrong."""
    import json

    from ollama_ft.core import refs
    from ollama_ft.kinds.suites import question_id
    from ollama_ft.stages.suite import find

    name = refs.family(context.db, family).name
    found = find(context.db, context.home, name, suite)
    if as_json:
        rows = [{"id": question_id(q.digest)} | json.loads(q.line) for q in found.questions]
        print_json({"suite": found.name, "kind": found.kind, "questions": rows})
        return
    click.echo(f"{found.name}: {len(found.questions)} questions, {found.kind}\n")
    for question in found.questions:
        lines = [question.question, question.answer]
        lines += [f"or: {' | '.join(question.accept)}"] if question.accept else []
        lines += [f"never: {' | '.join(question.must_not_say)}"] if question.must_not_say else []
        click.echo(harmless(f"{question_id(question.digest)}  " + "\n          ".join(lines)))


@suite_command.command("add")
@click.argument("suite", required=False)
@click.option("--from", "file", type=click.Path(path_type=Path), help="A file with questions.")
@click.option("--from-test", is_flag=True, help="The test questions of the family's newest data.")
@click.option("--from-logs", is_flag=True, help="What was corrected or liked, and not yet learned.")
@click.option("--exchange", multiple=True, help="Only this one of the log; repeatable.")
@click.option("--since", default="", help="Of the log only what is newer: 7d, 2026-11-25.")
@click.option("-n", "most", type=click.IntRange(1), help="Of the log the newest so many.")
@click.option("-q", "--question", help="One question, by hand.")
@click.option("-a", "--answer", help="Its reference answer.")
@click.option("--accept", multiple=True, help="A text that makes an answer right; repeatable.")
@click.option("--never", multiple=True, help="A text that makes it wrong; repeatable.")
@click.option("--kind", help="domain, general, safety or must-not-forget; else by the name.")
@click.option("--must-not-forget", is_flag=True, help="Short for --kind must-not-forget.")
@click.option("--family", help="The family; else the current one.")
@click.option("--for-all", is_flag=True, help="Asked of every family.")
@as_json
@pass_context
def suite_add(
    context: Context,
    suite: str | None,
    file: Path | None,
    from_test: bool,
    from_logs: bool,
    exchange: tuple[str, ...],
    since: str,
    most: int | None,
    question: str | None,
    answer: str | None,
    accept: tuple[str, ...],
    never: tuple[str, ...],
    kind: str | None,
    must_not_forget: bool,
    family: str | None,
    for_all: bool,
    as_json: bool,
) -> None:
    """Add questions to a suite, or begin it; they are never trained on.

    \b
      ollama-ft suite add --must-not-forget -q "When do you open?" -a "At nine."
      ollama-ft suite add returns --from returns.jsonl
      ollama-ft suite add asked --from-logs --since 30d
      ollama-ft suite add general-shop --from general.jsonl --for-all
    """
    from ollama_ft.core import refs
    from ollama_ft.kinds.suites import kind_by_name
    from ollama_ft.stages import suite as stage

    scope = "" if for_all else refs.family(context.db, family).name
    kind = "must-not-forget" if must_not_forget else kind
    name = suite or kind or ""
    _refuse_what_says_nothing(
        name, question, bool(answer or accept or never), from_logs, bool(exchange or since or most)
    )
    chosen = _from_log(context, scope, exchange, since, most) if from_logs else None
    rows, source = stage.gather(
        context.db,
        context.home,
        scope,
        file=file,
        test=from_test,
        by_hand=stage.by_hand(question, answer, accept, never) if question else None,
        logged=chosen.rows if chosen else None,
    )
    row = stage.add(context.db, context.home, name, kind or kind_by_name(name), scope, rows, source)
    if as_json:
        body = {"suite": row.name, "kind": row.kind, "family": row.family, "digest": row.digest}
        left_out = chosen.left if chosen else {}
        print_json({**body, "questions": row.questions, "left_out": left_out})
        return
    click.echo(f"{row.name} ({row.kind}): {row.questions} questions ({short(row.digest)})")
    for why, count in chosen.left.items() if chosen else ():
        click.echo(f"left out  {count} ({why})")
    click.echo("they are asked of every version from now on, and never trained on")


def _refuse_what_says_nothing(
    name: str, question: str | None, judged: bool, from_logs: bool, narrowed: bool
) -> None:
    if not name:
        raise BadInput("The suite has no name.", mend="ollama-ft suite add NAME --from FILE")
    if judged and not question:
        raise BadInput(
            "-a, --accept and --never say what is right for one question, and there is no -q.",
            mend='give -q "…"; in a file they are "answer", "accept" and "must_not_say"',
        )
    if narrowed and not from_logs:
        raise BadInput(
            "--exchange, --since and -n choose from the log, and there is no --from-logs.",
            mend=f"ollama-ft suite add {name} --from-logs …",
        )


def _from_log(
    context: Context, scope: str, exchanges: tuple[str, ...], since: str, most: int | None
) -> "Chosen":
    from ollama_ft.cli.logs import open_home_log
    from ollama_ft.core import refs
    from ollama_ft.questions import Wish, choose

    if not scope:
        raise BadInput(
            "The log is a family's own, and --for-all names none.",
            mend="ollama-ft suite add NAME --from-logs --family NAME",
        )
    wish = Wish(exchanges=exchanges, since=since, most=most)
    family = refs.family(context.db, scope)
    return choose(context.db, context.home, open_home_log(context), family, wish)
