"""What people have already comes into the log: read, redacted, given its family, written once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from shlex import quote

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.exchange import Entry, Heard
from ollama_ft.core.logbook import Pen
from ollama_ft.core.plugins import collect
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.sources import Source
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

    Raises NotFound for a file that is not there, BadInput for one that cannot be read, or by no
    source; batches of 500 that were read before stay.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    try:
        chosen = source or _fitting(path)
        found = _source(chosen).read(path)
        pen, new, known, nothing = Pen(log), 0, 0, 0
        for batch in _batches(found):
            heard = [_placed(names, one, family) for one in batch if one is not None]
            added = pen.write([clean(one) if clean else one for one in heard])
            new, known = new + added, known + len(heard) - added
            nothing += len(batch) - len(heard)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    return Imported(source=chosen, new=new, known=known, passed_over=nothing)


def _source(name: str) -> Source:
    sources = collect("sources")
    if name not in sources:
        raise BadInput(f"There is no source {name!r}. There are: {', '.join(sources)}.")
    found: Source = sources[name].thing
    return found


def _fitting(path: Path) -> str:
    sources = collect("sources")
    for name, loaded in sources.items():
        if loaded.thing.fits(path):
            return name
    raise BadInput(
        f"{path.name} is none of: {', '.join(sources)}.",
        mend=f"ollama-ft logs import {quote(str(path))} --source NAME",
    )


def _placed(names: Names, heard: Heard, family: str | None) -> Heard:
    """With the family that its model's name belongs to. Which version answered then, nobody knows,
    unless the name says it."""
    resolved = names.resolve(heard.model)
    if resolved.renamed or not resolved.digest:
        named = resolved.family or names.family(heard.model)
        return replace(heard, family=named or family or "")
    return replace(
        heard, family=resolved.family, version=resolved.tag, version_digest=resolved.digest
    )


def _batches(found: Iterable[Heard | None]) -> Iterator[list[Heard | None]]:
    rest = iter(found)
    while batch := list(islice(rest, _BATCH)):
        yield batch
