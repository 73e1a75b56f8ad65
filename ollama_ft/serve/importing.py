"""What people have already comes into the log: read, redacted, given its family, written once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.exchange import Entry, Heard
from ollama_ft.core.logbook import Pen
from ollama_ft.core.plugins import collect
from ollama_ft.core.sqlite import Database
from ollama_ft.serve.names import Names

_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came of one file."""

    source: str
    new: int
    known: int  # in the log already; at most their feedback is new
    passed_over: int  # no question with an answer


def bring(
    log: Database,
    names: Names,
    path: Path,
    *,
    source: str | None = None,
    family: str | None = None,
    clean: Callable[[Entry], Entry] | None,
) -> Imported:
    """Read one file into the log. `family` says whose all answers are, where the models' names do
    not.

    Raises NotFound for a file that is not there, BadInput for one that no source can read; batches
    of 500 that were read before stay.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    chosen = source or _fitting(path)
    sources = collect("sources")
    if chosen not in sources:
        raise BadInput(f"There is no source {chosen!r}. There are: {', '.join(sources)}.")
    pen, new, known, nothing = Pen(log), 0, 0, 0
    for batch in _batches(sources[chosen].thing.read(path)):
        found = [_placed(names, heard, family) for heard in batch if heard is not None]
        added = pen.write([clean(heard) if clean else heard for heard in found])
        new, known = new + added, known + len(found) - added
        nothing += len(batch) - len(found)
    return Imported(source=chosen, new=new, known=known, passed_over=nothing)


def _fitting(path: Path) -> str:
    sources = collect("sources")
    for name, loaded in sources.items():
        if loaded.thing.fits(path):
            return name
    raise BadInput(
        f"{path.name} is none of: {', '.join(sources)}.",
        mend=f"ollama-ft logs import {path.name} --source NAME",
    )


def _placed(names: Names, heard: Heard, family: str | None) -> Heard:
    """With the family that its model's name belongs to. Which version answered then, nobody knows,
    unless the name says it."""
    resolved = names.resolve(heard.model)
    if resolved.renamed or not resolved.digest:
        return replace(heard, family=family or resolved.family)
    return replace(
        heard, family=resolved.family, version=resolved.tag, version_digest=resolved.digest
    )


def _batches(found: Iterable[Heard | None]) -> Iterator[list[Heard | None]]:
    rest = iter(found)
    while batch := list(islice(rest, _BATCH)):
        yield batch
