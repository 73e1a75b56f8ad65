"""Commands that make data of data: data clean, data diff, data augment. Nothing is edited."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.reading import reading_options
from ollama_ft.cli.tables import as_json, print_json, short, table

if TYPE_CHECKING:
    from ollama_ft.core.conversation import Conversation
    from ollama_ft.kinds.cleaning import Counts
    from ollama_ft.kinds.containers import Reading


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
    """Drop, redact and repair rows, into a new file or revision.

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
                counts, revision = tidy.clean(shop.db, shop.home, found, keep, against)
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


@click.command("diff")
@click.argument("before")
@click.argument("after")
@click.option("-n", "count", default=5, show_default=True, help="How many rows of each kind.")
@as_json
@pass_context
def diff_command(context: Context, before: str, after: str, count: int, as_json: bool) -> None:
    """Show what AFTER has and BEFORE has not: files, families, revisions.

    \b
      ollama-ft data diff faq.jsonl faq.clean.jsonl
      ollama-ft data diff support~1 support      the newest revision and the one before
    """
    from dataclasses import asdict

    from ollama_ft import tidy
    from ollama_ft.kinds.differences import differ

    found = differ(*(tidy.resolve(context.db, context.home, name) for name in (before, after)))
    if as_json:
        print_json(asdict(found))
        return
    kinds = ("same", "added", "removed", "answered", "moved")
    click.echo(", ".join(f"{getattr(found, kind):,} {kind}" for kind in kinds))
    for sign, questions in (("+", found.first_added), ("-", found.first_removed)):
        for question in questions[:count]:
            click.echo(f"{sign} {question}")
    for answered in found.first_answered[:count]:
        click.echo(f"~ {answered.question}\n    - {answered.before}\n    + {answered.after}")
    for moved in found.first_moved[:count]:
        click.echo(f"> {moved}")


@click.command("augment")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@reading_options
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Else FILE.more.jsonl.")
@click.option("--family", help="Without files: the family whose data grows.")
@click.option("--typos", default=0, help="Mistyped copies of each question.")
@click.option("--paraphrases", default=0, help="Other ways to ask each, by --model.")
@click.option("--model", help="Who puts questions in other words: any model of the runtime.")
@click.option("--seed", default=0, show_default=True)
@as_json
@pass_context
def augment_command(
    context: Context,
    files: tuple[Path, ...],
    reading: "Reading",
    out: Path | None,
    family: str | None,
    typos: int,
    paraphrases: int,
    model: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Make more questions for answers that are there: mistyped, or in other words.

    Made rows are tagged, and only ever learned from; rows for validation and test have none made
    of them. Read what a small model writes before you train on it.

    \b
      ollama-ft data augment faq.jsonl --typos 1                     → faq.more.jsonl
      ollama-ft data augment --family support --paraphrases 3 --model qwen2.5:7b
    """
    from ollama_ft import tidy
    from ollama_ft.core import refs
    from ollama_ft.core.errors import BadInput
    from ollama_ft.kinds.more_rows import mistyped

    if bool(paraphrases) != (model is not None) or not typos + paraphrases:
        raise BadInput("Say what to make: --typos N, or --paraphrases N with --model NAME.")
    found = None if files else refs.family(context.db, family)
    target = _free(out or Path(f"{files[0].stem}.more.jsonl")) if files else None
    with context.home.lock(found.name) if found else nullcontext():
        known = tidy.rows_of(context.db, context.home, found) if found else None
        rows = tidy.read(files, reading) if known is None else known
        made, refused = list(mistyped(rows, typos, seed)), 0
        if model is not None:
            with context.workshop() as shop:
                more, refused = tidy.paraphrase(shop, rows, paraphrases, model)
                made += more
        if found:
            revision = tidy.revise(context.db, context.home, found, made, "augmented")
            where = f"{found.name}'s data {short(revision.digest)}"
        else:
            where = _write(target, [*rows, *made])
    if as_json:
        print_json({"made": len(made), "refused": refused, "out": where})
        return
    click.echo(f"{len(made):,} rows made of {len(rows):,}, all to learn from: {where}")
    if refused:
        click.echo(f"{refused:,} of the model's were left out: other numbers, script or length")


def _write(target: Path | None, rows: "Sequence[Conversation]") -> str:
    from ollama_ft.core.files import write_bytes

    assert target is not None, "rows of files go to a file"
    write_bytes(target, "".join(f"{row.line}\n" for row in rows).encode())
    return str(target)


def _free(path: Path) -> Path:
    from ollama_ft.core.errors import Conflict

    if path.exists():
        raise Conflict(f"{path} is there already.", mend="give another name with -o")
    return path
