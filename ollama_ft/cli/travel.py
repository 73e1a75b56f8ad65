"""Commands that move versions between machines: export, import, push, pull."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.outcome import proof_line
from ollama_ft.cli.tables import as_json, print_json, short, size

if TYPE_CHECKING:
    from ollama_ft.runtime.oci.client import Reach
    from ollama_ft.travel import Taken, Terms

sign_option = click.option("--sign", "key", metavar="KEY", help="Sign it with this key of yours.")
answers_option = click.option(
    "--no-answers", is_flag=True, help="Leave out the test questions and the answers to them."
)
ca_option = click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The registry's own CA certificate (PEM).",
)
insecure_option = click.option(
    "--insecure", is_flag=True, help="Plain http, also to other machines."
)
family_option = click.option("--family", help="The family's name here; else the one it had.")
base_option = click.option(
    "--base", metavar="MODEL", help="The base: an Ollama model, or a GGUF; else what it says."
)
signature_option = click.option(
    "--require-signature", is_flag=True, help="Only if a trusted key signed it."
)
renumber_option = click.option(
    "--renumber", is_flag=True, help="Take the next number if its own is taken here."
)


@click.command("export")
@click.argument("ref", required=False)
@click.option(
    "--as",
    "kind",
    default="bundle",
    show_default=True,
    help="bundle | gguf | peft | modelfile, and merged where it is built in.",
)
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to write it; a folder for peft.",
)
@sign_option
@answers_option
@as_json
@pass_context
def export_command(
    context: Context,
    ref: str | None,
    kind: str,
    out: Path,
    key: str | None,
    no_answers: bool,
    as_json: bool,
) -> None:
    """Write a version as a file, for another machine or tool.

    A bundle holds all that is known of the version but its base and its data: it can be imported
    and proved elsewhere. The questions that prove it go along.

    \b
      ollama-ft export support:v2 -o support-v2.tar --sign me
      ollama-ft export --as peft -o adapter/
    """
    from ollama_ft.cli.progress import Progress
    from ollama_ft.core.files import digest_file
    from ollama_ft.core.refs import resolve
    from ollama_ft.travel import export

    version = resolve(context.db, ref)
    with Progress(context.setting("progress")) as emit:
        written = export(
            context.db,
            context.home,
            version,
            kind,
            out,
            answers=not no_answers,
            key=key,
            emit=emit,
        )
    digest = digest_file(written) if written.is_file() else ""
    if as_json:
        print_json({"version": version.tag, "as": kind, "path": str(written), "digest": digest})
        return
    told = f" ({size(written.stat().st_size)}, {short(digest)})" if digest else ""
    click.echo(f"{version.tag} as {kind}: {written}{told}")


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@family_option
@base_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="What an adapter made elsewhere was taught; it is asked some of it for its proof.",
)
@signature_option
@renumber_option
@as_json
@pass_context
def import_command(
    context: Context,
    path: Path,
    family: str | None,
    base: str | None,
    data: tuple[Path, ...],
    require_signature: bool,
    renumber: bool,
    as_json: bool,
) -> None:
    """Take in a version: a bundle, an adapter, or a Modelfile.

    It is proved here before it is listed, and promoted only by you. Adapters may be GGUFs, PEFT
    folders (Unsloth, LLaMA-Factory) or mlx-lm's; these need the [train] extra for their proof, a
    bundle does not.

    \b
      ollama-ft import support-v2.tar --require-signature
      ollama-ft import adapter/ --family support --base llama3.2:1b --data faq.jsonl
    """
    from ollama_ft.travel import take

    terms = _terms(context, family, base, data, require_signature, renumber)
    with context.workshop() as shop:
        taken = take(shop, path, terms)
    _print(taken, as_json)


@click.command("push")
@click.argument("ref")
@click.argument("place")
@click.option(
    "--ollama-tag",
    metavar="TAG",
    help="A second tag that a stock `ollama pull` runs; the base is pushed with it.",
)
@sign_option
@answers_option
@ca_option
@insecure_option
@as_json
@pass_context
def push_command(
    context: Context,
    ref: str,
    place: str,
    ollama_tag: str | None,
    key: str | None,
    no_answers: bool,
    ca: Path | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Put a version into an OCI registry.

    Logins are docker's and podman's own, or OLLAMA_FT_REGISTRY_AUTH=user:password.

    \b
      ollama-ft push support:v2 registry.example:5000/team/support:v2
      ollama-ft push support:v2 registry.example/team/support --ollama-tag v2-ollama
    """
    from ollama_ft.cli.progress import Progress
    from ollama_ft.core.refs import resolve
    from ollama_ft.runtime.oci.place import Place
    from ollama_ft.travel import push

    version = resolve(context.db, ref)
    with Progress(context.setting("progress")) as emit:
        there = push(
            context.db,
            context.home,
            version,
            Place.parse(place),
            _reach(ca, insecure),
            emit,
            ollama_tag=ollama_tag,
            answers=not no_answers,
            key=key,
        )
    if as_json:
        print_json({"version": version.tag, "place": str(there), "digest": there.digest})
    else:
        click.echo(f"{version.tag} is at {there}")


@click.command("pull")
@click.argument("place")
@family_option
@base_option
@signature_option
@renumber_option
@ca_option
@insecure_option
@as_json
@pass_context
def pull_command(
    context: Context,
    place: str,
    family: str | None,
    base: str | None,
    require_signature: bool,
    renumber: bool,
    ca: Path | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Fetch a version from an OCI registry and prove it here.

    The base is fetched by its digest if it is not here: from the same place, or from where its
    name leads.

    \b
      ollama-ft pull registry.example:5000/team/support:v2
      ollama-ft pull registry.example/team/support@sha256:4f1c…
    """
    from ollama_ft.runtime.oci.place import Place
    from ollama_ft.travel import pull

    terms = _terms(context, family, base, (), require_signature, renumber)
    with context.workshop() as shop:
        taken = pull(shop, Place.parse(place), _reach(ca, insecure), terms)
    _print(taken, as_json)


def _terms(
    context: Context,
    family: str | None,
    base: str | None,
    data: tuple[Path, ...],
    require_signature: bool,
    renumber: bool,
) -> "Terms":
    from ollama_ft.travel import Terms

    always = context.setting("require_signature") == "yes"
    return Terms(
        family=family,
        base=base,
        data=data,
        signed=require_signature or always,
        renumber=renumber,
    )


def _reach(ca: Path | None, insecure: bool) -> "Reach":
    from ollama_ft.runtime.oci.client import Reach

    return Reach(insecure=insecure, ca=ca)


def _print(taken: "Taken", as_json: bool) -> None:
    import json

    tag = taken.version.tag
    if as_json:
        print_json(
            {
                "version": tag,
                "digest": taken.version.digest,
                "signer": taken.signer or None,
                "proof": json.loads(taken.proof.figures_json),
            }
        )
        return
    click.echo(f"{tag} is here" + (f", signed by {taken.signer}" if taken.signer else ""))
    click.echo(f"proof  {proof_line(taken.proof)}")
    click.echo(f"next   ollama-ft promote {tag}")
