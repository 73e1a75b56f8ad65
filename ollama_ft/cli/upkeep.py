"""Commands that keep what is there: publish, rebase, tag, gc."""

import json
import sys
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.make import load_the_gate
from ollama_ft.cli.manners import unload_option
from ollama_ft.cli.outcome import proof_line, tell_outcome
from ollama_ft.cli.tables import as_json, print_json, size, table
from ollama_ft.cli.ways import way, way_options
from ollama_ft.core.errors import BadInput

if TYPE_CHECKING:
    from ollama_ft.stages.gc import Plan
    from ollama_ft.upkeep import Arrival


@click.command("publish")
@click.argument("ref", required=False)
@click.option("--all", "everything", is_flag=True, help="Every version of every family.")
@way_options
@as_json
@pass_context
def publish_command(
    context: Context,
    ref: str | None,
    everything: bool,
    route: str | None,
    packed_as: str | None,
    as_json: bool,
) -> None:
    """Bring versions to the runtime again, and prove them there.

    They come from the home's own store: after `ollama rm`, to another host, by another route.

    \b
      ollama-ft publish v2
      ollama-ft --host 192.168.1.20 publish --all
    """
    from contextlib import ExitStack

    from ollama_ft import upkeep
    from ollama_ft.core.catalog import every
    from ollama_ft.core.records import Family
    from ollama_ft.core.refs import resolve

    chosen = way(route, packed_as)
    if everything and ref:
        raise BadInput(f"--all is everything; {ref} beside it says nothing more.")
    if everything:
        families = every(context.db, Family)[::-1]
        with ExitStack() as held:
            for family in families:
                held.enter_context(context.home.lock(family.name))
            arrivals = upkeep.publish_all(held.enter_context(context.workshop()), families, chosen)
    else:
        version = resolve(context.db, ref)
        with context.home.lock(version.family), context.workshop() as shop:
            arrivals = [upkeep.publish(shop, version, chosen)]
    _print(arrivals, as_json)


def _print(arrivals: "list[Arrival]", as_json: bool) -> None:
    if as_json:
        print_json({"versions": [_json(arrival) for arrival in arrivals]})
    else:
        table(["VERSION", "AT", "ROUTE", "PROOF"], [_row(arrival) for arrival in arrivals])
        if len(arrivals) == 1 and arrivals[0].proof:
            click.echo(f"\nproof {proof_line(arrivals[0].proof)}")
    if any(arrival.problem for arrival in arrivals):
        click.get_current_context().exit(1)


def _row(arrival: "Arrival") -> list[str]:
    publication = arrival.publication
    if arrival.let_go:
        return [arrival.version.tag, "-", "-", f"let go by gc ({arrival.let_go})"]
    if publication is None:
        return [arrival.version.tag, "-", "-", " ".join(arrival.problem.split())]
    proof = "passed" if arrival.proof else "-"
    return [arrival.version.tag, publication.address, publication.route, proof]


def _json(arrival: "Arrival") -> dict[str, object]:
    publication = arrival.publication
    return {
        "version": arrival.version.tag,
        "problem": arrival.problem,
        "let_go": arrival.let_go or None,
        "address": publication.address if publication else None,
        "route": publication.route if publication else None,
        "digest": publication.digest if publication else None,
        "proof": json.loads(arrival.proof.figures_json) if arrival.proof else None,
    }


@click.command("rebase")
@click.argument("family", required=False)
@click.option("--onto", metavar="MODEL", help="The new base; else what the old one's name is now.")
@click.option("--gate", default="no-worse", help="When it may go live; no-worse if not said.")
@unload_option
@as_json
@pass_context
def rebase_command(
    context: Context,
    family: str | None,
    onto: str | None,
    gate: str,
    unload: bool,
    as_json: bool,
) -> None:
    """Train a family again on a base that has moved, or on another.

    It learns what the live version learned, by the same recipe, and becomes live if it is proved
    and, by the gate's word, no worse than the live version is on the old base.

    \b
      ollama pull qwen2.5:0.5b && ollama-ft rebase support
      ollama-ft rebase support --onto qwen3:0.6b
    """
    from ollama_ft import upkeep
    from ollama_ft.core import refs

    found = refs.family(context.db, family)
    with context.home.lock(found.name), context.workshop(unload=unload) as shop:
        outcome = upkeep.rebase(shop, found, onto, load_the_gate(context, gate))
        tell_outcome(context, outcome, as_json)


@click.command("tag")
@click.argument("ref")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Take the word off again.")
@click.option("--reason", default="", help="Why; kept for ever.")
@as_json
@pass_context
def tag_command(
    context: Context, ref: str, name: str | None, remove: bool, reason: str, as_json: bool
) -> None:
    """Put a word on a version, so that gc never clears it away.

    \b
      ollama-ft tag support:v2 keep
      ollama-ft tag v2                    what is on it
    """
    from ollama_ft.core.refs import resolve, tags
    from ollama_ft.stages.tag import put, take

    version = resolve(context.db, ref)
    if remove and name is None:
        raise BadInput(
            "--remove needs the word that is to go.",
            mend=f"ollama-ft tag {version.tag} keep --remove",
        )
    if name is not None:
        (take if remove else put)(context.db, version, name, reason)
    words = tags(context.db, version)
    if as_json:
        print_json({"version": version.tag, "tags": words})
    else:
        click.echo(f"{version.tag}: {', '.join(words) or 'no tags'}")


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what may go, do nothing.")
@click.option(
    "--newest",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Versions of a family that stay.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="", help="Why; kept for ever.")
@as_json
@pass_context
def gc_command(
    context: Context, dry_run: bool, newest: int, yes: bool, reason: str, as_json: bool
) -> None:
    """Make room: let go of weights that nobody needs.

    The bare base, the live version, the one before it, tagged ones and the newest few stay.
    """
    from contextlib import ExitStack

    from ollama_ft.core.catalog import every
    from ollama_ft.core.records import Family
    from ollama_ft.stages.gc import plan, remove

    with ExitStack() as held:
        for family in () if dry_run else every(context.db, Family):
            held.enter_context(context.home.lock(family.name))
        found = plan(context.db, context.home, newest)
        if not as_json:
            _say_plan(found)
        done = bool(found.items) and not dry_run
        if done:
            _ask(f"Let go of {size(found.size)}?", yes)
            remove(context.db, context.home, found.items, reason)
    if as_json:
        print_json(_plan_json(found) | {"removed": done})
    elif done:
        click.echo(f"{size(found.size)} are free again")


def _ask(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(
            "What is let go is gone, and nobody is here to ask.", mend="ollama-ft gc --yes"
        )
    click.confirm(question, abort=True, err=True)


def _say_plan(found: "Plan") -> None:
    table(["STAYS", "BECAUSE"], [[kept.version.tag, kept.why] for kept in found.kept])
    if not found.items:
        click.echo("\nnothing may go")
        return
    click.echo()
    table(
        ["MAY GO", "SIZE", "AFTERWARDS"],
        [[item.what, size(item.size), item.loss or "nothing is missed"] for item in found.items],
    )
    click.echo(f"\n{size(found.size)} in all")
    for item in found.items:
        for address in item.elsewhere:
            click.echo(f"{item.what} may still be at {address}: ollama rm {item.what}")


def _plan_json(found: "Plan") -> dict[str, object]:
    return {
        "size": found.size,
        "kept": [{"version": kept.version.tag, "why": kept.why} for kept in found.kept],
        "items": [
            {"kind": i.kind, "what": i.what, "digest": i.digest, "size": i.size, "loss": i.loss}
            for i in found.items
        ],
    }
