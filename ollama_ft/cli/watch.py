"""Commands that watch what is live: drift, check, shadow, schedule; and doctor's canary."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.logs import open_home_log
from ollama_ft.cli.tables import as_json, cut, print_json, table

if TYPE_CHECKING:
    from ollama_ft.stages.shadow import Pair
    from ollama_ft.watch import Looked

DRIFTED = 8  # the exit code
TOO_FEW = 4
_WIDTH = 60  # characters of an answer that stands beside another

family_option = click.option("--family", help="The family; else the current one.")


@click.command("drift")
@family_option
@click.option(
    "--since", default="7d", show_default=True, help="What is 'now': a date, or 7d, 12h, 2w."
)
@click.option("--lexical", is_flag=True, help="Compare letters; ask no embedding model.")
@as_json
@pass_context
def drift_command(
    context: Context, family: str | None, since: str, lexical: bool, as_json: bool
) -> None:
    """Say whether people ask something else than they did.

    Exit code 8 if they do, with the questions that are most unlike the training.
    """
    from ollama_ft import watch
    from ollama_ft.cli.progress import Progress
    from ollama_ft.core import refs
    from ollama_ft.core.catalog import newest
    from ollama_ft.core.logsearch import moment
    from ollama_ft.core.shelf_records import Embedder

    found = refs.family(context.db, family)
    log, start = open_home_log(context), moment(since)
    by_meaning = not lexical and newest(context.db, Embedder) is not None
    if by_meaning:
        with context.workshop() as shop:
            row, unlike = watch.drift(
                context.db, context.home, log, found, start, client=shop.client, emit=shop.emit
            )
    else:
        with Progress(context.setting("progress")) as emit:
            row, unlike = watch.drift(
                context.db, context.home, log, found, start, client=None, emit=emit
            )
    figures: dict[str, Any] = watch.figures(row)
    figures["examples"] = [{"exchange": a.exchange, "question": a.question} for a in unlike]
    if as_json:
        print_json({"family": row.family, "drifted": bool(row.drifted)} | figures)
    else:
        _print_drift(row.family, row.now, row.before, figures)
    if row.drifted:
        click.get_current_context().exit(DRIFTED)


def _print_drift(family: str, now: int, before: int, figures: dict[str, Any]) -> None:
    past = f"{before} before" if figures["against"] == "the log" else "what it was trained on"
    click.echo(f"{family}: {now} conversations now, against {past}")
    click.echo(f"compared by {figures['vectors']}\n")
    table(
        ["", "WHAT", "FOUND"],
        [["!!" if f["drifted"] else "ok", f["name"], f["text"]] for f in figures["found"]],
    )
    if any(f["drifted"] for f in figures["found"]):
        click.echo("\nPeople ask something else than they did. Most unlike what is known:")
        for example in figures["examples"]:
            click.echo(f"  {example['exchange']:>6}  {cut(example['question'], _WIDTH)}")
        click.echo("\ntry: ollama-ft review, then train on the answers")
    else:
        click.echo("\nPeople ask what they did before, as far as can be told.")


@click.command("check")
@family_option
@click.option("--dry-run", is_flag=True, help="Only tell; roll nothing back.")
@as_json
@pass_context
def check_command(context: Context, family: str | None, dry_run: bool, as_json: bool) -> None:
    """Say whether the live version does worse; in its probation, go back first.

    \b
    Worse is a drop of 15 % or more in liked answers, or in its score, that luck does not explain.
    Exit code 8 if it is worse, 4 if there are too few ratings to tell.
    """
    from ollama_ft import watch
    from ollama_ft.core import refs

    found = refs.family(context.db, family)
    log = open_home_log(context)
    looked = watch.check(
        context.db,
        context.home,
        log,
        found,
        context.workshop,
        now=datetime.now(UTC),
        only_tell=dry_run,
    )
    if as_json:
        print_json(
            {
                "family": found.name,
                "version": looked.live.version.tag,
                "verdict": looked.row.verdict,
                "action": looked.row.action,
                "kept": looked.kept,
                "figures": watch.figures(looked.row),
                "examples": looked.examples,
            }
        )
    else:
        _print_check(context, looked)
    code = {"decayed": DRIFTED, "unknown": TOO_FEW}.get(looked.row.verdict, 0)
    click.get_current_context().exit(code)


def _print_check(context: Context, looked: "Looked") -> None:
    from ollama_ft.core.catalog import row
    from ollama_ft.core.records import Version
    from ollama_ft.kinds.decay import LEAST

    tag = looked.live.version.tag
    table(
        ["", "WHAT", "BEFORE", "NOW", "DROP", "95 %"],
        [
            [
                {"decayed": "!!", "unknown": "?"}.get(d.verdict, "ok"),
                "liked answers" if name == "up-rate" else "score",
                f"{d.before.good}/{d.before.of}",
                f"{d.now.good}/{d.now.of}",
                f"{d.drop:.0%}",
                f"{d.low:.0%} to {d.high:.0%}",
            ]
            for name, d in looked.found.items()
        ],
    )
    if looked.row.verdict == "unknown":
        short = looked.found["up-rate"]
        missing = max(0, LEAST - short.now.of), max(0, LEAST - short.before.of)
        click.echo(
            f"\n{tag}: too few ratings to tell. {missing[0]} more are needed now, and "
            f"{missing[1]} more from before."
        )
    elif looked.row.verdict == "steady":
        click.echo(f"\n{tag} does as well as before, as far as can be told.")
    else:
        click.echo(f"\n{tag} does worse than before.")
        for example in looked.examples:
            click.echo(f"  {example['id']:>6}  {cut(example['question'], _WIDTH)}")
            click.echo(f"          {example['rating']}: {cut(example['answer'], _WIDTH)}")
        if looked.back:
            to = row(context.db, Version, looked.back.version)
            click.echo(f"\nRolled back: {looked.back.family}:latest is {to.tag} again.")
        else:
            click.echo(f"\nNothing was moved: {looked.kept}.")
            click.echo("  try: ollama-ft rollback")


@click.command("shadow")
@click.argument("ref")
@click.option("--since", default="1d", show_default=True, help="A date, or 7d, 12h, 2w.")
@click.option(
    "-n",
    "most",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Questions at most.",
)
@click.option("--all", "whole", is_flag=True, help="Print the pairs that agree, too.")
@as_json
@pass_context
def shadow_command(
    context: Context, ref: str, since: str, most: int, whole: bool, as_json: bool
) -> None:
    """Ask a version what people asked yesterday, beside the live one.

    \b
      ollama-ft shadow v3
      ollama-ft shadow support:v3 --since 7d -n 300
    """
    from ollama_ft import watch
    from ollama_ft.core.logsearch import moment
    from ollama_ft.core.refs import resolve

    candidate = resolve(context.db, ref)
    log, start = open_home_log(context), moment(since)
    with context.workshop() as shop:
        row, pairs = watch.shadow(shop, log, candidate, start, most=most)
    figures = watch.figures(row)
    if as_json:
        body = {"candidate": candidate.tag, "questions": row.questions, "agreed": row.agreed}
        print_json(body | figures | {"pairs": [vars(pair) for pair in pairs]})
        return
    _print_pairs([p for p in pairs if whole or not p.agreed])
    click.echo(
        f"{row.agreed} of {row.questions} answers are the same; the words of all are alike to "
        f"{figures['likeness']:.0%}. {figures['stopped']} of {candidate.tag}'s end by themselves."
    )
    if figures["wanted"]:
        click.echo(
            f"Of {figures['wanted']} questions whose right answer is known, {candidate.tag} comes "
            f"nearer in {figures['candidate_nearer']}, the live version in "
            f"{figures['live_nearer']}."
        )


def _print_pairs(pairs: "list[Pair]") -> None:
    for pair in pairs:
        click.echo(f"Q          {cut(pair.question, 100)}")
        click.echo(f"live       {cut(pair.live, 100)}")
        click.echo(f"candidate  {cut(pair.candidate, 100)}")
        if pair.wanted:
            click.echo(f"wanted     {cut(pair.wanted, 100)}")
        click.echo()


@click.command("schedule")
@family_option
@click.option("--form", type=click.Choice(["cron", "systemd"]), default="cron", show_default=True)
@click.option("--rows", type=click.IntRange(1), default=500, show_default=True, help="New rows.")
@click.option("--days", type=click.FloatRange(0.1), default=7, show_default=True, help="At least.")
@click.option("--due", "ask_due", is_flag=True, help="Say whether it is time now; 4 if not.")
@as_json
@pass_context
def schedule_command(
    context: Context,
    family: str | None,
    form: str,
    rows: int,
    days: float,
    ask_due: bool,
    as_json: bool,
) -> None:
    """Print the cron or systemd entry that watches and retrains.

    It checks every hour, and trains when so many rows are new, when so many days went by, or when
    the live version has decayed. Nothing is installed.

    \b
      (crontab -l; ollama-ft schedule) | crontab -
      ollama-ft schedule --due && ollama-ft retrain --from-logs
    """
    from ollama_ft.cli.entries import entry
    from ollama_ft.core import refs

    found = refs.family(context.db, family)
    if not ask_due:
        text = entry(form, context.home.path, found.name, rows=rows, days=days)
        if as_json:
            print_json({"form": form, "entry": text})
        else:
            click.echo(text, nl=False)
        return
    from ollama_ft import watch

    now = datetime.now(UTC)
    log = open_home_log(context)
    why, new = watch.when_due(context.db, log, found, now, rows=rows, days=days)
    if as_json:
        print_json({"family": found.name, "due": bool(why), "why": why, "new_rows": new})
    else:
        click.echo(f"{found.name}: {why or f'not yet, {new} new rows'}")
    click.get_current_context().exit(0 if why else TOO_FEW)


def listen(context: Context, ref: str | None, as_json: bool) -> None:
    """What `doctor --canary` does: ask the live version's canary again, or plant one."""
    from ollama_ft import watch
    from ollama_ft.core.refs import resolve

    version = resolve(context.db, ref)
    with context.workshop() as shop:
        canary, heard = watch.listen(shop, version)
    figures = json.loads(canary.figures_json)
    if as_json:
        body = {"version": version.tag, "planted": heard is None, "at": canary.at}
        print_json(body | figures | (vars(heard) if heard else {}))
    elif heard is None:
        click.echo(f"{version.tag}: a canary is kept from now on ({canary.runtime_version}).")
        click.echo(
            f"noise of this runtime {figures['noise']:.4f}; KL to the base on general prompts "
            f"{figures['kl_to_base']:.3f} or more"
        )
    else:
        head = "is served as it was" if heard.sings else "is no longer served as it was"
        click.echo(f"{version.tag} {head} on {canary.at[:10]}.")
        for line in (*heard.changes, *heard.notes):
            click.echo(f"  {line}")
        click.echo(
            f"  next-token chances {heard.distance:.4f} apart ({heard.allowed:.4f} is allowed), "
            f"{heard.answers_equal} of {heard.prompts} answers word for word"
        )
        if not heard.sings:
            click.echo(f"  try: ollama-ft eval {version.tag}, then ollama-ft rollback if it fell")
    if heard is not None and not heard.sings:
        click.get_current_context().exit(DRIFTED)
