"""Commands about what goes in: data (check, show) and base (list, pull, show)."""

from pathlib import Path

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import age, print_json, short, size, table

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("data")
def data_command() -> None:
    """Look at data: files before training, a family's rows."""


@data_command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", help="The files' format; else found out.")
@as_json
@pass_context
def check(context: Context, files: tuple[Path, ...], form: str | None, as_json: bool) -> None:
    """Read files as training would, and say what is in them."""
    from dataclasses import asdict

    from ollama_ft.kinds.report import check as examine

    report = asdict(examine(list(files), format=form))
    if as_json:
        print_json(report)
        return
    for key, value in report.items():
        click.echo(f"{key.replace('_', ' '):<16}{_written(value)}")


def _written(value: object) -> str:
    match value:
        case {"median": median, "longest": longest, "longest_at": place}:
            return f"median {median} characters, longest {longest} ({place})"
        case dict():
            return ", ".join(f"{key} {count}" for key, count in value.items())
        case list() | tuple():
            return "".join(f"\n  {line}" for line in value) or "none"
        case _:
            return str(value)


@data_command.command("show")
@click.argument("family", required=False)
@click.option("--split", type=click.Choice(["train", "validation", "test"]))
@click.option("-n", "count", default=10, show_default=True, help="How many rows.")
@as_json
@pass_context
def show(
    context: Context, family: str | None, split: str | None, count: int, as_json: bool
) -> None:
    """Show rows of a family's newest dataset."""
    import json

    from ollama_ft.core import refs
    from ollama_ft.core.errors import NotFound
    from ollama_ft.stages.dataset import load, newest_here

    name = refs.family(context.db, family).name
    dataset = newest_here(context.db, context.home, name)
    if dataset is None:
        raise NotFound(f"{name} has no data yet.", mend=f"ollama-ft train {name} --data faq.jsonl")
    rows = [row for row in load(context.home, dataset) if split in (None, row.split)][:count]
    if as_json:
        lines = [json.loads(row.line) for row in rows]
        print_json({"family": name, "digest": dataset.digest, "rows": lines})
        return
    click.echo(
        f"{name}: {dataset.train} train, {dataset.validation} validation, {dataset.test} test "
        f"({short(dataset.digest)})\n"
    )
    for row in rows:
        click.echo(f"[{row.split}] {row.question}\n    {row.answer}")


@click.group("base")
def base_command() -> None:
    """Bases: the models that families stand on."""


@base_command.command("list")
@as_json
@pass_context
def base_list(context: Context, as_json: bool) -> None:
    """Show pinned bases, and those that ollama-ft knows a source for."""
    from ollama_ft.core.catalog import every
    from ollama_ft.core.records import Base
    from ollama_ft.stages.base import known_bases

    pinned = {base.name: base for base in reversed(every(context.db, Base))}
    known = known_bases(context.home)
    if as_json:
        body = [
            {"name": b.name, "blob": b.blob_digest, "size": b.size, "pinned": b.pinned}
            for b in pinned.values()
        ]
        print_json({"pinned": body, "known": known})
        return
    rows = [
        [b.name, short(b.blob_digest), size(b.size), b.architecture, f"pinned {age(b.at)}"]
        for b in pinned.values()
    ]
    rows += [[name, "-", "-", "-", "known"] for name in known if name not in pinned]
    table(["NAME", "ID", "SIZE", "ARCHITECTURE", "STATE"], rows)


@base_command.command("pull")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Ask the registry over plain http, as Ollama does.")
@pass_context
def base_pull(context: Context, model: str, insecure: bool) -> None:
    """Fetch a base and pin it, without starting a family.

    \b
      ollama-ft base pull qwen2.5:0.5b
      ollama-ft base pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M
    """
    from ollama_ft.stages.base import pin

    with context.workshop() as shop:
        base, _ = pin(shop.db, shop.home, shop.client, model, shop.emit, insecure=insecure)
    click.echo(f"{base.name} is pinned as {base.pinned} ({short(base.blob_digest)})")


@base_command.command("show")
@click.argument("model")
@as_json
@pass_context
def base_show(context: Context, model: str, as_json: bool) -> None:
    """Show what is known of a pinned base."""
    from dataclasses import asdict

    from ollama_ft.core.catalog import newest
    from ollama_ft.core.errors import NotFound
    from ollama_ft.core.records import Base

    base = newest(context.db, Base, name=model)
    if base is None:
        raise NotFound(f"{model} is not pinned.", mend=f"ollama-ft base pull {model}")
    if as_json:
        print_json(asdict(base))
        return
    for key, value in asdict(base).items():
        click.echo(f"{key.removesuffix('_json').replace('_', ' '):<18}{value}")
