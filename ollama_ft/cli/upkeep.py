"""Commands that keep what is there: publish."""

import json
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.outcome import proof_line
from ollama_ft.cli.tables import print_json, table
from ollama_ft.cli.ways import way, way_options
from ollama_ft.core.errors import BadInput

if TYPE_CHECKING:
    from ollama_ft.upkeep import Arrival

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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
    from ollama_ft import upkeep
    from ollama_ft.core.catalog import every
    from ollama_ft.core.records import Family
    from ollama_ft.core.refs import resolve

    chosen = way(route, packed_as)
    if everything and ref:
        raise BadInput(f"--all is everything; {ref} beside it says nothing more.")
    if everything:
        families = every(context.db, Family)[::-1]
        with context.workshop() as shop:
            arrivals = upkeep.publish_all(shop, families, chosen)
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
    if publication is None:
        return [arrival.version.tag, "-", "-", " ".join(arrival.problem.split())]
    proof = "passed" if arrival.proof else "-"
    return [arrival.version.tag, publication.address, publication.route, proof]


def _json(arrival: "Arrival") -> dict[str, object]:
    publication = arrival.publication
    return {
        "version": arrival.version.tag,
        "problem": arrival.problem,
        "address": publication.address if publication else None,
        "route": publication.route if publication else None,
        "digest": publication.digest if publication else None,
        "proof": json.loads(arrival.proof.figures_json) if arrival.proof else None,
    }
