"""Commands that look: list, show, diff, history, use. They need no runtime and no torch."""

import json
import re
from typing import Any

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import (
    age,
    as_json,
    harmless,
    number,
    print_json,
    share,
    short,
    size,
    table,
)

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@click.command("list")
@click.argument("family", required=False)
@as_json
@pass_context
def list_command(context: Context, family: str | None, as_json: bool) -> None:
    """Show versions: which is live, scores, sizes, ages."""
    from ollama_ft.core import refs

    if family is not None:
        refs.family(context.db, family)
    rows = list(
        context.db.query(
            "select * from versions_view where :family is null or family = :family "
            "order by family, number desc",
            {"family": family},
        )
    )
    if as_json:
        print_json({"current": _current(context), "versions": rows})
        return
    if not rows:
        click.echo("No family yet. Start one: ollama-ft new --from smollm2:135m --data faq.jsonl")
        return
    table(
        ["NAME", "STATUS", "ID", "RIGHT", "PERPLEXITY", "ROWS", "SIZE", "CREATED"],
        [_line(row) for row in rows],
        right=("PERPLEXITY", "ROWS"),
    )


def _line(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['family']}:v{row['number']}",
        row["status"] if row["number"] or row["status"] != "live" else "live (base)",
        short(row["digest"]),
        share(row["right"], row["questions"]),
        number(row["perplexity"]),
        str(row["rows"] or "-"),
        size(row["size"] if row["number"] else row["base_size"]),
        age(row["at"]),
    ]


def _current(context: Context) -> str | None:
    from ollama_ft.core.catalog import newest
    from ollama_ft.core.records import Use

    use = newest(context.db, Use)
    return use.family if use else None


@click.command("use")
@click.argument("family", required=False)
@as_json
@pass_context
def use_command(context: Context, family: str | None, as_json: bool) -> None:
    """Choose the current family, or show it."""
    from ollama_ft.core import refs
    from ollama_ft.stages.family import use

    if family is not None:
        use(context.db, refs.family(context.db, family).name)
    name = refs.current_family(context.db).name
    if as_json:
        print_json({"current": name})
    else:
        click.echo(name)


@click.command("show")
@click.argument("ref", required=False)
@click.option("--modelfile", "part", flag_value="modelfile", help="Only the Modelfile.")
@click.option("--proof", "part", flag_value="proof", help="Only the proof, every figure.")
@as_json
@pass_context
def show_command(context: Context, ref: str | None, part: str | None, as_json: bool) -> None:
    """Show one version: its origin, proof and scores."""
    from ollama_ft.cli.describe import describe, modelfile_text, proof_text
    from ollama_ft.core.refs import resolve

    version = resolve(context.db, ref)
    if part == "modelfile":
        text = modelfile_text(context.home, version)
        if as_json:
            print_json({"version": version.tag, "modelfile": text})
        else:
            click.echo(text, nl=False)
    elif part == "proof":
        click.echo(proof_text(context.db, context.home, version))
    elif as_json:
        print_json(describe(context.db, version))
    else:
        for title, fields in describe(context.db, version).items():
            assert isinstance(fields, dict), "describe gives one object for each title"
            click.echo(title)
            _pairs([(f"  {key}", _plain(value)) for key, value in fields.items()])


def _pairs(rows: list[tuple[str, str]]) -> None:
    width = max(len(key) for key, _ in rows) + 3
    for key, value in rows:
        indented = value.rstrip("\n").replace("\n", "\n" + " " * width)
        click.echo(f"{key:<{width}}{indented}")
    click.echo()


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@click.command("diff")
@click.argument("first")
@click.argument("second")
@click.option("--all", "everything", is_flag=True, help="Show every question, not flips alone.")
@click.option("--md", is_flag=True, help="Print Markdown, for pasting.")
@as_json
@pass_context
def diff_command(
    context: Context, first: str, second: str, everything: bool, md: bool, as_json: bool
) -> None:
    """Compare two versions: parts, scores, flipped questions.

    \b
      ollama-ft diff v1 v2
      ollama-ft diff support@prev support
    """
    from ollama_ft.cli.describe import difference
    from ollama_ft.core.refs import resolve

    one, two = resolve(context.db, first), resolve(context.db, second)
    found = difference(context.db, context.home, one, two)
    if as_json:
        print_json(found)
        return
    head = ["", one.tag, two.tag]
    rows = [[name, _brief(a), _brief(b)] for name, (a, b) in found["parts"].items()]
    if md:
        _markdown(head, rows)
    else:
        table(head, rows)
    flips = [f for f in found["questions"] if everything or f["first_right"] != f["second_right"]]
    click.echo(f"\n{len(flips)} questions {'asked of both' if everything else 'flipped'}")
    for flip in flips:
        click.echo(f"\n  Q  {harmless(flip['question'])}\n  =  {harmless(flip['expected'])}")
        click.echo(f"  {_mark(flip['first_right'])}  {one.tag}: {harmless(flip['first'])}")
        click.echo(f"  {_mark(flip['second_right'])}  {two.tag}: {harmless(flip['second'])}")


def _brief(value: object) -> str:
    # A digest in full is for --json.
    return DIGEST.sub(lambda match: short(match[0]), _plain(value))


def _mark(right: bool) -> str:
    return click.style("✓", fg="green") if right else click.style("✗", fg="red")


def _markdown(head: list[str], rows: list[list[str]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        shown = (cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells)
        click.echo("| " + " | ".join(shown) + " |")


@click.command("history")
@click.argument("family", required=False)
@as_json
@pass_context
def history_command(context: Context, family: str | None, as_json: bool) -> None:
    """Show what became live, when and why, newest first."""
    from ollama_ft.core import refs
    from ollama_ft.core.catalog import every, row
    from ollama_ft.core.records import Promotion, Version

    name = refs.family(context.db, family).name
    moves = every(context.db, Promotion, family=name)
    versions = {m.id: row(context.db, Version, m.version).tag for m in moves}
    if as_json:
        body = [{"version": versions[m.id]} | _move(m) for m in moves]
        print_json({"family": name, "history": body})
        return
    table(
        ["#", "WHEN", "ACTION", "VERSION", "OUTCOME", "REASON"],
        [
            [str(m.id), age(m.at), m.action, versions[m.id], m.outcome, m.reason or "-"]
            for m in moves
        ],
    )


def _move(move: Any) -> dict[str, object]:
    names = ("id", "at", "action", "outcome", "reason", "digest", "parent")
    return {name: getattr(move, name) for name in names}
