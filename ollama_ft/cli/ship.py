"""Commands about what is live: promote, rollback, run."""

import sys
from collections.abc import Mapping

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import as_json, harmless, print_json, short
from ollama_ft.core.errors import BadInput

reason_option = click.option("--reason", default="", help="Why; kept in the history for ever.")
dry_option = click.option("--dry-run", is_flag=True, help="Say what would happen, do nothing.")


@click.command("promote")
@click.argument("ref")
@reason_option
@click.option("--gate", help="When it may go live: a gate's name, or a YAML file.")
@click.option("--accept", multiple=True, metavar="ID", help="A question that may be forgotten.")
@click.option("--force", is_flag=True, help="Whatever the gate says; needs --reason.")
@dry_option
@as_json
@pass_context
def promote_command(
    context: Context,
    ref: str,
    reason: str,
    gate: str | None,
    accept: tuple[str, ...],
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a proved version live, if it passes the gate.

    \b
      ollama-ft promote v2
      ollama-ft promote v2 --accept 1f9a03bc --reason "we close at six now"
      ollama-ft promote v2 --force --reason "asked for by the boss"
    """
    from ollama_ft.cli.make import load_the_gate
    from ollama_ft.cli.outcome import print_verdict, verdict_json
    from ollama_ft.core.refs import resolve
    from ollama_ft.stages.promote import check_proof

    version = resolve(context.db, ref)
    check_proof(context.db, version)
    if dry_run:
        verb = "would move" if force else "would move, if the gate lets it"
        _say(as_json, version.family, _live(context, version.family), version.tag, verb)
        return
    from ollama_ft import loop

    if (accept or force) and not reason:
        raise BadInput(
            f"{'--force' if force else '--accept'} needs a --reason: it is kept for ever."
        )
    rules = load_the_gate(context, gate, dict.fromkeys(accept, reason))
    with context.home.lock(version.family), context.workshop() as shop:
        was = _live(context, version.family)
        row, verdict = loop.promote(shop, version, reason, rules, force=force)
    if verdict and not as_json:
        print_verdict(verdict)
    more = {"verdict": verdict_json(verdict)} if verdict else {}
    _say(as_json, version.family, was, version.tag, digest=row.digest, more=more)


@click.command("rollback")
@click.argument("ref", required=False)
@click.option("--family", help="The family, where no version is named.")
@reason_option
@dry_option
@as_json
@pass_context
def rollback_command(
    context: Context,
    ref: str | None,
    family: str | None,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Go back to the version that was live before.

    \b
      ollama-ft rollback                 the version before
      ollama-ft rollback support:v0      all the way to the bare base
    """
    from ollama_ft.core import refs
    from ollama_ft.core.catalog import newest, row
    from ollama_ft.core.records import Family, Version
    from ollama_ft.stages.promote import pending, rollback_target, steps_back

    if ref and newest(context.db, Family, name=ref):
        family, ref = ref, None  # `rollback support`: the family, one step back
    target = refs.resolve(context.db, ref) if ref else None
    found = refs.family(context.db, target.family if target else family)
    interrupted = any(intent.family == found.name for intent in pending(context.db))
    if dry_run or not interrupted:  # an interrupted move is finished first
        goal = rollback_target(context.db, found, steps_back(context.db, found, target))
    if dry_run:
        tag = row(context.db, Version, goal.version).tag
        _say(as_json, found.name, _live(context, found.name), tag, "would move")
        if interrupted:
            click.echo("A move was interrupted. It is finished first: look again then.", err=True)
        return
    from ollama_ft import loop

    with context.home.lock(found.name), context.workshop() as shop:
        was = _live(context, found.name)
        moved = loop.rollback(shop, found, target, reason)
    now = row(context.db, Version, moved.version).tag
    _say(as_json, found.name, was, now, digest=moved.digest)


def _live(context: Context, family: str) -> str | None:
    from ollama_ft.core.refs import live

    current = live(context.db, family)
    return current.version.tag if current else None


def _say(
    as_json: bool,
    family: str,
    was: str | None,
    now: str,
    would: str = "",
    *,
    digest: str = "",
    more: Mapping[str, object] | None = None,
) -> None:
    """Tell of a move; `would` is the verb of one that is not made."""
    if as_json:
        body = {"family": family, "was": was, "live": now, "dry_run": bool(would)}
        print_json(body | dict(more or {}))
        return
    if was == now:
        click.echo(f"{now} is live already.")
        return
    read_back = f" ({short(digest)}, read back)" if digest else ""
    click.echo(f"{family}:latest {would or 'moved'}: {was or 'nothing'} → {now}{read_back}")


@click.command("run")
@click.argument("words", nargs=-1)
@click.option("--ref", help="The version to ask; else the live one of the current family.")
@as_json
@pass_context
def run_command(context: Context, words: tuple[str, ...], ref: str | None, as_json: bool) -> None:
    """Ask the live version a question (or stdin's).

    \b
      ollama-ft run "When do you open?"
      ollama-ft run --ref v0 "When do you open?"
    """
    from ollama_ft import loop
    from ollama_ft.core.refs import resolve

    version = resolve(context.db, ref)
    question = " ".join(words) or ("" if sys.stdin.isatty() else _piped())
    if not question:
        raise BadInput("There is no question.", mend='ollama-ft run "When do you open?"')
    with context.workshop() as shop:
        streamed = None if as_json else lambda piece: click.echo(harmless(piece), nl=False)
        answer = loop.ask(shop, version, question, streamed)
    if as_json:
        body = {"version": version.tag, "answer": answer.text, "done_reason": answer.done_reason}
        print_json(body | {"answer_tokens": answer.answer_tokens})
    else:
        click.echo()
        if not answer.done:
            click.echo("(the runtime broke the answer off)", err=True)


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadInput(
            "The question is not in UTF-8.",
            mend="iconv -f gb18030 -t utf-8 FILE | ollama-ft run, for one in a Chinese encoding",
        ) from error
