"""Commands about what goes in: data (check, show) and base (list, pull, show)."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.reading import reading_options
from ollama_ft.cli.tables import age, as_json, harmless, print_json, short, size, table
from ollama_ft.cli.tidying import augment_command, clean_command, diff_command, needs_files

if TYPE_CHECKING:
    from ollama_ft.kinds.containers import Reading


@click.group("data")
def data_command() -> None:
    """Look at data and clean it: files before training, a family's rows."""


@data_command.command("check")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@reading_options
@click.option("--family", help="Hold the rows against this family's template and suites too.")
@click.option("--embed", metavar="MODEL", help="Look for rows that mean what a suite asks.")
@as_json
@pass_context
def check(
    context: Context,
    files: tuple[Path, ...],
    reading: "Reading",
    family: str | None,
    embed: str | None,
    as_json: bool,
) -> None:
    """Say what is in files of data, and what is wrong with them.

    Without files: the rows that the family has. Nothing is changed.

    \b
      ollama-ft data check faq.jsonl
      ollama-ft data check more.csv --family support    too long? asked in a suite?
    """
    from dataclasses import asdict

    from ollama_ft import tidy
    from ollama_ft.cli.findings import print_report
    from ollama_ft.core import refs
    from ollama_ft.core.errors import BadInput
    from ollama_ft.kinds import report as reports

    needs_files(files, reading)
    if files and family is None:
        if embed:
            raise BadInput(
                "--embed looks for what a family's suites ask, and no family is named.",
                mend=f"ollama-ft data check {files[0]} --embed {embed} --family NAME",
            )
        report = reports.check(files, reading)
    else:
        found = refs.family(context.db, family)
        with context.workshop() as shop:
            against = tidy.against(shop, found, embed)
            rows = () if files else tidy.rows_of(shop.db, shop.home, found)
            report = (
                reports.check(files, reading, against)
                if files
                else reports.summarise(rows, against)
            )
    if as_json:
        print_json(asdict(report))
    else:
        print_report(report)


for _command in (clean_command, diff_command, augment_command):
    data_command.add_command(_command)


@data_command.command("show")
@click.argument("family", required=False)
@click.option("--split", type=click.Choice(["train", "validation", "test"]))
@click.option(
    "-n", "count", default=10, type=click.IntRange(0), show_default=True, help="How many rows."
)
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
        click.echo(harmless(f"[{row.split}] {row.question}\n    {row.answer}"))


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
@as_json
@pass_context
def base_pull(context: Context, model: str, insecure: bool, as_json: bool) -> None:
    """Fetch a base and pin it, without starting a family.

    What is here of it already is looked at, byte by byte; what is damaged is fetched again.

    \b
      ollama-ft base pull qwen2.5:0.5b
      ollama-ft base pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M
    """
    from ollama_ft.stages.base import discard_damaged, pin

    with context.workshop() as shop:
        discard_damaged(shop.db, shop.home, model, shop.emit)
        base, _ = pin(shop.db, shop.home, shop.client, model, shop.emit, insecure=insecure)
    if as_json:
        print_json({"name": base.name, "pinned": base.pinned, "blob": base.blob_digest})
        return
    click.echo(f"{base.name} is pinned as {base.pinned} ({short(base.blob_digest)})")


@base_command.command("show")
@click.argument("model")
@as_json
@pass_context
def base_show(context: Context, model: str, as_json: bool) -> None:
    """Show what is known of a pinned base."""
    from dataclasses import asdict

    from ollama_ft.core.errors import NotFound
    from ollama_ft.stages.base import pinned_base

    base = pinned_base(context.db, model)
    if base is None:
        raise NotFound(f"{model} is not pinned.", mend=f"ollama-ft base pull {model}")
    if as_json:
        print_json(asdict(base))
        return
    for key, value in asdict(base).items():
        click.echo(f"{key.removesuffix('_json').replace('_', ' '):<18}{value}")
