"""Commands that make data of data: data clean, data diff, data augment. Nothing is edited."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.reading import reading_options
from ollama_ft.cli.tables import as_json, harmless, print_json, short, table

if TYPE_CHECKING:
    from ollama_ft.core.conversation import Conversation
    from ollama_ft.kinds.cleaning import Counts
    from ollama_ft.kinds.containers import Reading
    from ollama_ft.kinds.differences import Difference


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

    What is read stays as it is. Each change stands with its reason in FILE.clean.changes.jsonl; of
    a family's data, in the file that is named at the end.

    \b
      ollama-ft data clean faq.csv                      → faq.clean.jsonl
      ollama-ft data clean faq.jsonl --keep personal    names and numbers of the shop itself
      ollama-ft data clean --family support             → what support learns next
    """
    from dataclasses import asdict

    from ollama_ft import tidy
    from ollama_ft.core import refs
    from ollama_ft.kinds.cleaning import changes_path, clean_files

    needs_files(files, reading, out)
    found = refs.family(context.db, family) if family or not files else None
    out = out or (Path(f"{files[0].stem}.clean.jsonl") if files else None)
    changes = changes_path(out) if out else None
    if found is None:
        assert out is not None, "there are files"
        counts, made = clean_files(files, out, reading, keep), str(out)
    else:
        with context.home.lock(found.name), context.workshop() as shop:
            against = tidy.against(shop, found)
            if out:
                counts, made = clean_files(files, out, reading, keep, against), str(out)
            else:
                counts, revision, changes = tidy.clean(shop.db, shop.home, found, keep, against)
                made = f"{found.name}'s data {short(revision.digest)}"
    if as_json:
        told = None if changes is None else str(changes)
        print_json({"made": made, "changes": told} | asdict(counts))
        return
    _print_counts(counts)
    click.echo(f"\n{counts.stayed:,} of {counts.came:,} rows stay: {made}")
    if changes:
        click.echo(f"every change, with its reason: {changes}")


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
@reading_options
@click.option(
    "-n",
    "count",
    default=5,
    type=click.IntRange(0),
    show_default=True,
    help="How many rows of each kind.",
)
@as_json
@pass_context
def diff_command(
    context: Context, before: str, after: str, reading: "Reading", count: int, as_json: bool
) -> None:
    """Show what AFTER has and BEFORE has not: files, families, revisions.

    Rows that are not fit are counted and left out.

    \b
      ollama-ft data diff faq.jsonl faq.clean.jsonl
      ollama-ft data diff faq.csv faq.clean.jsonl --map question=Frage,answer=Antwort
      ollama-ft data diff support~1 support      the newest revision and the one before
    """
    from dataclasses import asdict

    from ollama_ft import tidy
    from ollama_ft.kinds.differences import differ

    unfit: list[list[object]] = [[], []]
    found = differ(
        *(
            tidy.resolve(context.db, context.home, name, reading, bad.append)
            for name, bad in zip((before, after), unfit, strict=True)
        )
    )
    if as_json:
        print_json(asdict(found) | {"unfit": {"before": len(unfit[0]), "after": len(unfit[1])}})
        return
    kinds = ("same", "added", "removed", "answered", "moved", "changed")
    click.echo(", ".join(f"{getattr(found, kind):,} {kind}" for kind in kinds))
    for name, bad in zip((before, after), unfit, strict=True):
        if bad:
            click.echo(f"{len(bad):,} rows of {name} are not fit: ollama-ft data check {name}")
    _print_rows(found, count)


def _print_rows(found: "Difference", count: int) -> None:
    for sign, texts in (("+", found.first_added), ("-", found.first_removed)):
        for text in texts[:count]:
            click.echo(f"{sign} {harmless(text)}")
    for answered in found.first_answered[:count]:
        sides = f"    - {answered.before}\n    + {answered.after}"
        click.echo(harmless(f"~ {answered.question}\n{sides}"))
    for sign, texts in ((">", found.first_moved), ("*", found.first_changed)):
        for text in texts[:count]:
            click.echo(f"{sign} {harmless(text)}")


@click.command("augment")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@reading_options
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Else FILE.more.jsonl.")
@click.option("--family", help="Without files: the family whose data grows.")
@click.option(
    "--typos", default=0, type=click.IntRange(0), help="Mistyped copies of each question."
)
@click.option(
    "--paraphrases",
    default=0,
    type=click.IntRange(0),
    help="Other ways to ask each, by --model.",
)
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
    needs_files(files, reading, out)
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
        grown = tidy.grown(rows, made)
        added, left = len(grown) - len(rows), len(rows) + len(made) - len(grown)
        if found:
            revision = tidy.revise(context.db, context.home, found, grown, {"augmented": added})
            where = f"{found.name}'s data {short(revision.digest)}"
        else:
            where = _write(target, grown)
    if as_json:
        print_json({"made": added, "left_out": left, "refused": refused, "out": where})
        return
    click.echo(f"{added:,} rows made of {len(rows):,}, all to learn from: {where}")
    if left:
        click.echo(f"{left:,} left out: there already, or near to what is only asked")
    if refused:
        click.echo(f"{refused:,} of the model's were left out: other numbers, script or length")


def needs_files(files: Sequence[Path], reading: "Reading", out: Path | None = None) -> None:
    """Raise BadInput for options that only mean something where files are given."""
    from ollama_ft.core.errors import BadInput

    names = {"-o": out, "--format": reading.format, "--map": reading.columns}
    given = [name for name, value in [*names.items(), ("--query", reading.query)] if value]
    if given and not files:
        raise BadInput(
            f"{' and '.join(given)} says how a file is read or called, and no file is given.",
            mend="give files, or leave it out: a family's data becomes a new revision",
        )


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
