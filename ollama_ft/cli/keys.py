"""Commands about keys: new, list, trust."""

import os
from dataclasses import asdict
from pathlib import Path

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import as_json, print_json, table


@click.group("keys")
def keys_command() -> None:
    """Keys that sign versions, and keys that are trusted."""


@keys_command.command("new")
@click.argument("name")
@pass_context
def keys_new(context: Context, name: str) -> None:
    """Make a key of your own to sign with.

    Set OLLAMA_FT_KEY_PASSPHRASE to have it encrypted; it is asked for nowhere else.
    """
    from ollama_ft.kinds.signatures import folder, new_key

    key = new_key(context.home, name, os.environ)
    click.echo(f"{key.name} {key.fingerprint}")
    click.echo(f"give away  {folder(context.home) / f'{name}.pub'}")
    click.echo("sign with  ollama-ft export … --sign " + name)


@keys_command.command("list")
@as_json
@pass_context
def keys_list(context: Context, as_json: bool) -> None:
    """List your keys and those that you trust."""
    from ollama_ft.kinds.signatures import known_keys

    found = known_keys(context.home)
    if as_json:
        print_json({"keys": [asdict(key) for key in found]})
        return
    table(
        ["NAME", "KEY", "WHOSE"],
        [[k.name, k.fingerprint[:12], "yours" if k.own else "trusted"] for k in found],
    )


@keys_command.command("trust")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The name to know it by; else the file's.")
@pass_context
def keys_trust(context: Context, file: Path, name: str | None) -> None:
    """Trust somebody's public key: what it signed may come in."""
    from ollama_ft.kinds.signatures import trust

    key = trust(context.home, file, name or file.stem)
    click.echo(f"{key.name} {key.fingerprint} is trusted")
