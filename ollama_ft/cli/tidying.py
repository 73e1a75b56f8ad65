"""Commands that make data of data: data clean, data diff, data augment. Nothing is edited."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.reading import reading_options
from ollama_ft.cli.tables import print_json, short, table

if TYPE_CHECKING:
    from ollama_ft.kinds.cleaning import Counts
    from ollama_ft.kinds.containers import Reading

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

RULES = ("duplicates", "near", "conflicts", "leaks", "long", "personal")


@click.command("clean")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@reading_options
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Else FILE.clean.jsonl.")
@click.option("--family", help="Mind this family's template and suites; without files, its data.")
@click.option("--keep", multiple=True, type=click.Choice(RULES), help="Leave these as they are.")
@as_json
@pass_context
def clean_command(
    context: Context,
    files: tuple[Path, ...],
    reading: "Reading",
    out: Path | None,
    family: str | None,
    keep: tuple[str, ...],
    as_json: bool,
) -> None:
    """Drop, redact and repair rows into a new file, or a new revision of a family's data.

    What is read stays as it is. Each change stands with its reason in FILE.clean.changes.jsonl.

    \b
      ollama-ft data clean faq.csv                      → faq.clean.jsonl
      ollama-ft data clean faq.jsonl --keep personal    names and numbers of the shop itself
      ollama-ft data clean --family support             → what support learns next
    """
    from dataclasses import asdict

    from ollama_ft import tidy
    from ollama_ft.core import refs
    from ollama_ft.kinds.cleaning import changes_path, clean_files

    found = refs.family(context.db, family) if family or not files else None
    if found is None:
        out = out or Path(f"{files[0].stem}.clean.jsonl")
        counts, made = clean_files(files, out, reading, keep), str(out)
    else:
        with context.home.lock(found.name), context.workshop() as shop:
            against = tidy.against(shop, found)
            if files:
                out = out or Path(f"{files[0].stem}.clean.jsonl")
                counts, made = clean_files(files, out, reading, keep, against), str(out)
            else:
                counts, revision = tidy.clean(shop, found, keep, against)
                made = f"{found.name}'s data {short(revision.digest)}"
    if as_json:
        changes = str(changes_path(out)) if out else None
        print_json({"made": made, "changes": changes} | asdict(counts))
        return
    _print_counts(counts)
    click.echo(f"\n{counts.stayed:,} of {counts.came:,} rows stay: {made}")
    if out:
        click.echo(f"every change, with its reason: {changes_path(out)}")


def _print_counts(counts: "Counts") -> None:
    rows = [
        [action, f"{number:,}", reason]
        for action in ("dropped", "redacted", "repaired")
        for reason, number in getattr(counts, action).items()
    ]
    if rows:
        table(["DONE", "ROWS", "WHY"], rows, right=("ROWS",))
    else:
        click.echo("Nothing to clean.")
