"""Knowledge: documents on a shelf, cut into chunks, with their words and vectors.

Reads:  documents, chunks, vectors
Writes: documents, chunks, placements, embedders, vectors

A document that is added again gets a new row with its new placements; chunks are found again by
their digest, so that only what has changed is embedded. Removing is a row as well. Vectors are
appended batch by batch: an interrupted `add` goes on where it was when it is called again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, append_all, newest
from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.events import Count, Emit, Note
from ollama_ft.core.files import digest_file
from ollama_ft.core.home import Home
from ollama_ft.core.shelf_records import Chunk, Document, Embedder, Placement, Vector
from ollama_ft.core.sqlite import Database
from ollama_ft.core.words import to_index

if TYPE_CHECKING:
    from ollama_ft.kinds import chunking
    from ollama_ft.kinds.embedding import Model
    from ollama_ft.kinds.readers.apart import ReadingRoom
    from ollama_ft.runtime.client import Ollama

EVERYBODY = ""  # the family of documents that every family knows
_BATCH = 32  # texts embedded at once


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of the files that were named."""

    added: tuple[Document, ...]  # new ones, and those that had changed
    unchanged: int
    removed: tuple[Document, ...]  # gone from a folder that was named
    refused: tuple[str, ...]  # why, for each file that could not be read
    chunks: int  # on the shelf that were not known before


def add(
    db: Database,
    home: Home,
    paths: Sequence[Path],
    emit: Emit,
    *,
    family: str = EVERYBODY,
    embedder: Embedder | None = None,
) -> Added:
    """Put files, and the files in folders, on the family's shelf; what has not changed stays.

    Files that are gone from a folder are taken off. `embedder` says how tokens are counted.

    Raises what `meant` raises, and BadInput if nothing at all could be read. Each document is
    there as a whole or not.
    """
    from ollama_ft.kinds.embedding import counter
    from ollama_ft.kinds.readers.apart import ReadingRoom

    files = meant(db, paths, family)
    with db.atomic():
        removed = [_take_off(db, row) for row in _gone(db, family, paths)]
    count = counter(home, embedder.digest if embedder else "")
    added: list[Document] = []
    refused: list[BadInput] = []
    before = _highest(db, Chunk)
    with ReadingRoom() as room:
        for done, path in enumerate(files, start=1):
            try:
                document = _add_one(db, room, path, family, count)
            except BadInput as error:
                refused.append(error)
                emit(Note(text=f"left out: {_told(error)}"))
            else:
                added += [document] if document else []
            emit(Count(name="reading", done=done, total=len(files), unit="documents"))
    if refused and len(refused) == len(files) and not removed:
        raise refused[0]
    return Added(
        added=tuple(added),
        unchanged=len(files) - len(added) - len(refused),
        removed=tuple(removed),
        refused=tuple(map(_told, refused)),
        chunks=_highest(db, Chunk) - before,
    )


def meant(db: Database, paths: Sequence[Path], family: str = EVERYBODY) -> list[Path]:
    """Every file that is meant, each once, by its absolute path; none if all that a folder had on
    the shelf is gone from it.

    Raises NotFound for a path that is not there or a folder with nothing to read, Unsupported for
    a file of a kind that nobody reads.
    """
    from ollama_ft.kinds.readers import kind_of, kinds_by_suffix

    found: dict[Path, None] = {}
    for path in map(_absolute, paths):
        if _holds(path.is_dir):
            found |= dict.fromkeys(_readable(path, frozenset(kinds_by_suffix())))
        elif _holds(path.is_file):
            kind_of(path)
            found[path] = None
        else:
            raise NotFound(f"{path} is not there.", mend=_mend(db, path))
    if not found and not any(_gone(db, family, paths)):
        raise NotFound(
            f"There is no document in {', '.join(map(str, paths))}.",
            mend="see ollama-ft knowledge add --help for what is read",
        )
    return list(found)


def _mend(db: Database, path: Path) -> str:
    is_known = any(_is_below(row.path, path) for row in documents(db))
    return f"ollama-ft knowledge rm {path}" if is_known else ""


def remove(db: Database, paths: Sequence[Path], family: str | None = None) -> list[Document]:
    """Take documents off the shelf: a file, all below a folder, or the one that has this name.

    Of this family's own shelf; None: of whatever shelf. Raises NotFound for a path that is on none,
    BadInput for a name that several have; then nothing is taken off.
    """
    rows = [row for row in documents(db, family) if family is None or row.family == family]
    found: dict[int, Document] = {}
    for path in paths:
        found |= {row.key: row for row in _named(rows, path)}
    with db.atomic():
        return [_take_off(db, row) for row in found.values()]


def documents(db: Database, family: str | None = None) -> list[Document]:
    """What is on the shelf, by path. None: of every family; else the family's and everybody's."""
    rows = db.query(
        "select * from documents where id in (select max(id) from documents group by family, path)"
        " and removed = 0 and (:family is null or family in (:family, '')) order by path",
        {"family": family},
    )
    return [Document(**row) for row in rows]


def register(db: Database, model: "Model") -> Embedder:
    """The row of an embedding model. The newest row is the one that questions are embedded by."""
    row = Embedder(name=model.name, digest=model.digest, dimensions=model.dimensions)
    last = newest(db, Embedder)
    if last and (last.name, last.digest, last.dimensions) == (row.name, row.digest, row.dimensions):
        return last
    return append(db, row)


def embed(db: Database, client: "Ollama", embedder: Embedder, emit: Emit) -> int:
    """Give every chunk on the shelf that has none a vector of this model; return how many.

    Raises RuntimeUnavailable; the batches before it are kept, and the next call goes on.
    """
    from ollama_ft.kinds.chunking import embedded_text
    from ollama_ft.kinds.embedding import vectors

    missing = _without_vector(db, embedder)
    for at in range(0, len(missing), _BATCH):
        batch = missing[at : at + _BATCH]
        texts = [embedded_text(heading, text) for _, heading, text in batch]
        found = vectors(client, embedder.name, embedder.dimensions, texts)
        append_all(
            db,
            [
                Vector(chunk=chunk, embedder=embedder.key, data=data)
                for (chunk, _, _), data in zip(batch, found, strict=True)
            ],
        )
        done = at + len(batch)
        emit(Count(name="embedding", done=done, total=len(missing), unit="passages"))
    return len(missing)


def _add_one(
    db: Database, room: "ReadingRoom", path: Path, family: str, count: "chunking.Count"
) -> Document | None:
    """Read one file and append its rows; None if it is on the shelf as it is."""
    from ollama_ft.kinds.chunking import cut
    from ollama_ft.kinds.readers import kind_of

    digest, size = _looked_at(path)
    last = newest(db, Document, family=family, path=str(path))
    if last and last.digest == digest and not last.removed:
        return None
    blocks = room.read(path)
    pieces = list(cut(blocks, count))
    if not pieces:
        if last and not last.removed:
            _take_off(db, last)
        raise BadInput(f"{path}: there is no text in it.")
    title = next((block.text for block in blocks if block.kind == "heading"), path.stem)
    with db.atomic():
        document = append(
            db,
            Document(
                family=family,
                path=str(path),
                digest=digest,
                kind=kind_of(path),
                title=title[:200],
                size=size,
                passages=len(pieces),
            ),
        )
        chunks = [_chunk(db, piece) for piece in pieces]
        append_all(
            db,
            [
                Placement(document=document.key, chunk=chunk, place=place, page=piece.page)
                for place, (chunk, piece) in enumerate(zip(chunks, pieces, strict=True))
            ],
        )
    return document


def _chunk(db: Database, piece: "chunking.Piece") -> int:
    """The id of the chunk with this content, appended with its words if it is new."""
    from ollama_ft.kinds.chunking import embedded_text

    known = newest(db, Chunk, digest=piece.digest)
    if known is not None:
        return known.key
    chunk = append(
        db,
        Chunk(digest=piece.digest, heading=piece.heading, text=piece.text, tokens=piece.tokens),
    )
    words = to_index(embedded_text(piece.heading, piece.text))
    db.execute("insert into words(rowid, text) values (?, ?)", [chunk.key, words])
    return chunk.key


def _take_off(db: Database, row: Document) -> Document:
    return append(
        db,
        Document(
            family=row.family,
            path=row.path,
            digest=row.digest,
            kind=row.kind,
            title=row.title,
            size=row.size,
            passages=0,
            removed=1,
        ),
    )


def _without_vector(db: Database, embedder: Embedder) -> list[tuple[int, str, str]]:
    """(id, heading, text) of chunks on the shelf, the ones that came first first."""
    sql = """
        select id, heading, text from chunks
        where id in (select chunk from shelf)
          and id not in (select chunk from vectors where embedder = ?)
        order by id
    """
    return [tuple(row) for row in db.execute(sql, [embedder.key]).fetchall()]


def _readable(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        # Word leaves a "~$" file beside each document that is open.
        is_hidden = any(part.startswith((".", "~$")) for part in path.relative_to(folder).parts)
        if path.suffix.lower() in suffixes and not is_hidden and _holds(path.is_file):
            yield path


def _gone(db: Database, family: str, paths: Sequence[Path]) -> Iterator[Document]:
    """What is on the family's own shelf, below a folder that is there, and itself is no more."""
    folders = [folder for folder in map(_absolute, paths) if _holds(folder.is_dir)]
    for row in documents(db, family):
        if row.family == family and any(_is_below(row.path, folder) for folder in folders):
            try:
                Path(row.path).stat()
            except (FileNotFoundError, NotADirectoryError):
                yield row
            except OSError:  # perhaps it is there, and cannot be looked at just now
                continue


def _named(rows: Sequence[Document], path: Path) -> list[Document]:
    if below := [row for row in rows if _is_below(row.path, _absolute(path))]:
        return below
    found = [row for row in rows if Path(row.path).name == str(path)]
    places = sorted({row.path for row in found})
    if not places:
        raise NotFound(f"{path} is on no shelf.", mend="ollama-ft knowledge list")
    if len(places) > 1:
        raise BadInput(
            f"{len(places)} documents have the name {path}: {', '.join(places)}.",
            mend=f"name it by its path: ollama-ft knowledge rm {places[0]}",
        )
    return found


def _absolute(path: Path) -> Path:
    """One name for each file, however it was named: without "..", but with its links."""
    return Path(os.path.normpath(path.absolute()))


def _holds(test: Callable[[], bool]) -> bool:
    """Whether a path is what it is asked for; what cannot be looked at is nothing."""
    try:
        return test()
    except OSError:
        return False


def _looked_at(path: Path) -> tuple[str, int]:
    """The file's digest and size. Raises BadInput for one that cannot be read, or named."""
    try:
        str(path).encode()
        return digest_file(path), path.stat().st_size
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise BadInput(f"{shown}: its name is not in UTF-8.", mend="rename it") from None
    except OSError as error:
        raise BadInput(f"{path}: it cannot be read ({error.strerror}).") from error


def _told(error: BadInput) -> str:
    return f"{error} Try: {error.mend}" if error.mend else str(error)


def _is_below(path: str, folder: Path) -> bool:
    return Path(path) == folder or folder in Path(path).parents


def _highest(db: Database, kind: type[Chunk]) -> int:
    row = newest(db, kind)
    return row.key if row else 0
