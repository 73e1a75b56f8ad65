"""Commands about documents: ask, and knowledge add, list, rm, search."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.cli.tables import age, as_json, print_json, size, table
from ollama_ft.core.errors import BadInput, RuntimeUnavailable

if TYPE_CHECKING:
    from ollama_ft.core.events import Emit
    from ollama_ft.kinds.context import Passage
    from ollama_ft.runtime.client import Ollama

family_option = click.option("--family", help="The family; else the current one.")
passages_option = click.option(
    "-k", "count", type=click.IntRange(1, 50), default=5, show_default=True, help="Passages."
)


@click.command("ask")
@click.argument("words", nargs=-1)
@family_option
@passages_option
@as_json
@pass_context
def ask_command(
    context: Context, words: tuple[str, ...], family: str | None, count: int, as_json: bool
) -> None:
    """Ask the live version a question, with your documents at hand.

    \b
      ollama-ft knowledge add handbook.pdf
      ollama-ft ask "When do you open?"
    """
    from ollama_ft import library
    from ollama_ft.core.refs import resolve

    version = resolve(context.db, family)
    question = _question(words, "ask")
    with context.workshop() as shop:
        streamed = None if as_json else lambda piece: click.echo(piece, nl=False)
        answer, found = library.ask(shop, version, question, count, streamed)
    if as_json:
        body = {"version": version.tag, "answer": answer.text, "done_reason": answer.done_reason}
        print_json(body | {"sources": [_plain(at, p) for at, p in enumerate(found, start=1)]})
        return
    click.echo("\n\nSources")
    table(["", "WHERE"], [[f"[{at}]", p.place] for at, p in enumerate(found, start=1)])


@click.group("knowledge")
def knowledge_command() -> None:
    """Documents that answers are drawn from."""


@knowledge_command.command("add")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--family", help="For this family alone; else for all of them.")
@click.option("--embedder", help="The embedding model, by its Ollama name; else the shelf's.")
@as_json
@pass_context
def knowledge_add(
    context: Context,
    paths: tuple[Path, ...],
    family: str | None,
    embedder: str | None,
    as_json: bool,
) -> None:
    """Put documents on the shelf: Markdown, text, HTML, PDF, Word.

    A file that is added again is read only if it has changed, and only passages that are new are
    embedded; files that are gone from a folder are taken off. An interrupted call goes on where it
    was. Without an embedding model, or any runtime, words alone will be found.

    \b
      ollama-ft knowledge add handbook.pdf docs/
    """
    from ollama_ft import library
    from ollama_ft.stages.knowledge import EVERYBODY

    shelf = _known(context, family) or EVERYBODY
    setting = context.settings["embedder"]
    wish = embedder or ("" if setting.origin == "default" else setting.value)
    with context.home.lock("knowledge"), _at_hand(context) as (client, emit):
        added, embedded = library.learn(context.db, context.home, client, emit, paths, shelf, wish)
    if as_json:
        print_json(
            {
                "added": [row.path for row in added.added],
                "unchanged": added.unchanged,
                "removed": [row.path for row in added.removed],
                "left_out": list(added.refused),
                "new_passages": added.chunks,
                "embedded": embedded,
            }
        )
        return
    parts = [f"{len(added.added)} added", f"{added.unchanged} unchanged"]
    parts += [f"{len(added.removed)} removed"] if added.removed else []
    parts += [f"{len(added.refused)} left out"] if added.refused else []
    click.echo(f"documents: {', '.join(parts)}")
    click.echo(f"passages:  {added.chunks} new, {embedded} embedded")


@knowledge_command.command("list")
@click.option("--family", help="What this family knows, its own and everybody's.")
@as_json
@pass_context
def knowledge_list(context: Context, family: str | None, as_json: bool) -> None:
    """List the documents."""
    from ollama_ft.stages.knowledge import documents

    rows = documents(context.db, _known(context, family))
    if as_json:
        keys = ("family", "path", "title", "kind", "size", "passages", "digest", "at")
        print_json({"documents": [{key: getattr(row, key) for key in keys} for row in rows]})
        return
    table(
        ["DOCUMENT", "FAMILY", "KIND", "PASSAGES", "SIZE", "ADDED"],
        [
            [
                row.path,
                row.family or "all",
                row.kind,
                str(row.passages),
                size(row.size),
                age(row.at),
            ]
            for row in rows
        ],
        right=["PASSAGES", "SIZE"],
    )


@knowledge_command.command("rm")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--family", help="Of this family's own documents alone.")
@as_json
@pass_context
def knowledge_rm(
    context: Context, paths: tuple[Path, ...], family: str | None, as_json: bool
) -> None:
    """Take documents off the shelf: by path, or by name where one alone has it.

    A folder means all below it.
    """
    from ollama_ft.stages.knowledge import remove

    with context.home.lock("knowledge"):
        rows = remove(context.db, paths, _known(context, family))
    if as_json:
        print_json({"removed": [row.path for row in rows]})
        return
    for row in rows:
        click.echo(f"removed {row.path}")


@knowledge_command.command("search")
@click.argument("words", nargs=-1)
@family_option
@passages_option
@as_json
@pass_context
def knowledge_search(
    context: Context, words: tuple[str, ...], family: str | None, count: int, as_json: bool
) -> None:
    """Show the passages that a question would be given."""
    from ollama_ft.core.catalog import newest
    from ollama_ft.core.records import Use
    from ollama_ft.core.refs import current_family
    from ollama_ft.serve.knowledge import retrieve

    question = _question(words, "knowledge search")
    name = _known(context, family)
    if name is None:
        name = current_family(context.db).name if newest(context.db, Use) else ""
    with _at_hand(context) as (client, emit):
        found = retrieve(context.db, context.home, client, name, question, count, emit=emit)
    if as_json:
        print_json({"passages": [_plain(at, p) for at, p in enumerate(found, start=1)]})
        return
    _show(found)


def _show(found: Sequence["Passage"]) -> None:
    if not found:
        click.echo("nothing was found")
    for at, passage in enumerate(found, start=1):
        by = " and ".join(passage.found_by)
        click.echo(f"[{at}] {passage.place} (by {by})")
        click.echo("\n".join(f"    {line}" for line in passage.text.splitlines()))


def _plain(number: int, passage: "Passage") -> dict[str, object]:
    return {
        "number": number,
        "path": passage.path,
        "title": passage.title,
        "heading": passage.heading,
        "page": passage.page,
        "text": passage.text,
        "score": round(passage.score, 6),
        "found_by": list(passage.found_by),
    }


def _question(words: tuple[str, ...], command: str) -> str:
    said = " ".join(words)
    if not words and not sys.stdin.isatty():
        said = sys.stdin.buffer.read().decode(errors="replace")
    question = said.strip()
    if not question:
        raise BadInput("There is no question.", mend=f'ollama-ft {command} "When do you open?"')
    return question


def _known(context: Context, family: str | None) -> str | None:
    """The family that was named, which there must be; None if none was."""
    from ollama_ft.core import refs

    return refs.family(context.db, family).name if family is not None else None


@contextmanager
def _at_hand(context: Context) -> "Iterator[tuple[Ollama | None, Emit]]":
    """The runtime, and who is told; None where no runtime answers: words alone must do then."""
    from ollama_ft.cli.progress import Progress
    from ollama_ft.core.events import Note

    with ExitStack() as stack:
        client: Ollama | None = None
        try:
            shop = stack.enter_context(context.workshop())
            client, emit = shop.client, shop.emit
        except RuntimeUnavailable as error:
            emit = stack.enter_context(Progress(context.setting("progress")))
            emit(Note(text=f"words alone are looked at, as there is no runtime. {error}"))
        yield client, emit
