"""Commands that keep house: doctor, config, plugins, completion."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import as_json, print_json, table
from ollama_ft.core.errors import FtError
from ollama_ft.core.settings import MEANINGS

if TYPE_CHECKING:
    from ollama_ft.stages.doctor import Finding


@click.command("doctor")
@click.option("--canary", is_flag=True, help="Ask stored prompts: did the runtime change?")
@click.option("--ref", help="The version whose canary is meant; else the live one.")
@as_json
@pass_context
def doctor_command(context: Context, canary: bool, ref: str | None, as_json: bool) -> None:
    """Check everything, and say what mends each finding.

    With --canary: whether the runtime, or the base in it, changed under a version. Exit code 8 if
    it did. The first time the prompts are asked, and what is said is kept.
    """
    if canary or ref:
        from ollama_ft.cli.watch import listen

        listen(context, ref, as_json)
        return
    from ollama_ft.stages.doctor import examine

    findings = [*examine(context.db, context.home), *_runtime(context)]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        table(
            ["", "WHAT", "FOUND"],
            [["ok" if f.ok else "!!", f.name, f.text] for f in findings],
        )
        for finding in findings:
            if finding.mend:
                click.echo(f"{finding.name}: {finding.mend}")
    if not all(f.ok for f in findings):
        click.get_current_context().exit(1)


def _runtime(context: Context) -> "list[Finding]":
    from ollama_ft.runtime.find import connect
    from ollama_ft.stages.doctor import Finding, examine_runtime

    notices: list[str] = []
    try:
        with connect(
            context.home.models,
            host=context.setting("host") or None,
            env=os.environ,
            notice=notices.append,
            log=context.home.path / "registry" / "runtime.log",
        ) as client:
            found = list(examine_runtime(context.db, client))
    except FtError as error:
        return [Finding(name="runtime", ok=False, text=str(error), mend=error.mend)]
    return [*found, *(Finding(name="runtime", ok=True, text=notice) for notice in notices)]


@click.group("config")
def config_command() -> None:
    """Settings and the recipe's keys."""


@config_command.command("show")
@as_json
@pass_context
def config_show(context: Context, as_json: bool) -> None:
    """Show every setting, its value, and who set it."""
    if as_json:
        body = {key: asdict(setting) for key, setting in context.settings.items()}
        home = {"path": str(context.home.path), "origin": context.home.origin}
        print_json({"home": home, "settings": body})
        return
    rows = [["home", str(context.home.path), context.home.origin, "Where everything is kept."]]
    rows += [[s.key, s.value or '""', s.origin, MEANINGS[s.key]] for s in context.settings.values()]
    table(["KEY", "VALUE", "FROM", "MEANING"], rows)


@config_command.command("schema")
@click.option("--gate", is_flag=True, help="Of a gate instead.")
def config_schema(gate: bool) -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from ollama_ft.core.gates import GateRules
    from ollama_ft.core.recipe import Recipe

    kind = GateRules if gate else Recipe
    click.echo(json.dumps(kind.model_json_schema(), indent=2))


@click.command("plugins")
@as_json
def plugins_command(as_json: bool) -> None:
    """List what is plugged in, and from where."""
    from ollama_ft.core.plugins import everything

    loaded = everything()
    if as_json:
        print_json({"plugins": [[p.kind, p.name, p.origin] for p in loaded]})
        return
    table(["KIND", "NAME", "FROM"], [[p.kind, p.name, p.origin] for p in loaded])


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
      eval "$(ollama-ft completion bash)"
    """
    from click.shell_completion import get_completion_class

    from ollama_ft.cli.app import cli

    found = get_completion_class(shell)
    assert found is not None, "click knows the three shells that the argument allows"
    click.echo(found(cli, {}, "ollama-ft", "_OLLAMA_FT_COMPLETE").source())
