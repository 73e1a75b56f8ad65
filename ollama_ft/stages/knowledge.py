"""Knowledge: documents on a shelf, cut into chunks, with their words and vectors.

Reads:  documents, chunks, vectors
Writes: documents, chunks, placements, embedders, vectors

A document that is added again gets a new row with its new placements; chunks are found again by
their digest, so that only what has changed is embedded. Removing is a row as well. Vectors are
appended batch by batch: an interrupted `add` goes on where it was when it is called again.
"""

from collections.abc import Iterator, Sequence
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

    Raises NotFound for a path that is not there, Unsupported for a file of a kind that nobody
    reads, BadInput if nothing at all could be read. Each document is there as a whole or not.
    """
    from ollama_ft.kinds.embedding import counter
    from ollama_ft.kinds.readers.apart import ReadingRoom

    files = _files(paths)
    count = counter(home, embedder.digest if embedder else "")
    added: list[Document] = []
    refused: list[str] = []
    before = _highest(db, Chunk)
    with ReadingRoom() as room:
        for done, path in enumerate(files, start=1):
            try:
                document = _add_one(db, room, path, family, count)
            except BadInput as error:
                refused.append(str(error))
                emit(Note(text=f"left out: {error}"))
            else:
                added += [document] if document else []
            emit(Count(name="reading", done=done, total=len(files), unit="documents"))
    gone = [row for folder in paths if folder.is_dir() for row in _gone(db, family, folder, files)]
    if refused and len(refused) == len(files):
        raise BadInput(refused[0], mend="see ollama-ft knowledge add --help for what is read")
    return Added(
        added=tuple(added),
        unchanged=len(files) - len(added) - len(refused),
        removed=tuple(_take_off(db, row) for row in gone),
        refused=tuple(refused),
        chunks=_highest(db, Chunk) - before,
    )


def remove(db: Database, paths: Sequence[Path], family: str | None = None) -> list[Document]:
    """Take documents off the shelf: a file, or all below a folder; None: of whatever family.

    Raises NotFound for a path that is on no shelf; then nothing is taken off.
    """
    found: dict[int, Document] = {}
    for path in paths:
        rows = [row for row in documents(db, family) if _is_below(row.path, path.absolute())]
        rows = rows or [row for row in documents(db, family) if Path(row.path).name == str(path)]
        if not rows:
            raise NotFound(f"{path} is on no shelf.", mend="ollama-ft knowledge list")
        found |= {row.key: row for row in rows}
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

    digest = digest_file(path)
    last = newest(db, Document, family=family, path=str(path))
    if last and last.digest == digest and not last.removed:
        return None
    blocks = room.read(path)
    pieces = list(cut(blocks, count))
    if not pieces:
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
                size=path.stat().st_size,
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


def _files(paths: Sequence[Path]) -> list[Path]:
    """Every file that is meant, each once, by its absolute path."""
    from ollama_ft.kinds.readers import kind_of, kinds_by_suffix

    found: dict[Path, None] = {}
    for path in map(Path.absolute, paths):
        if path.is_dir():
            found |= dict.fromkeys(_readable(path, frozenset(kinds_by_suffix())))
        elif path.is_file():
            kind_of(path)
            found[path] = None
        else:
            raise NotFound(f"{path} is not there.")
    if not found:
        raise NotFound(
            f"There is no document in {', '.join(map(str, paths))}.",
            mend="see ollama-ft knowledge add --help for what is read",
        )
    return list(found)


def _readable(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in suffixes and path.is_file() and not is_hidden:
            yield path


def _gone(db: Database, family: str, folder: Path, files: Sequence[Path]) -> Iterator[Document]:
    here = set(map(str, files))
    for row in documents(db, family):
        if row.family == family and row.path not in here and _is_below(row.path, folder.absolute()):
            yield row


def _is_below(path: str, folder: Path) -> bool:
    return Path(path) == folder or folder in Path(path).parents


def _highest(db: Database, kind: type[Chunk]) -> int:
    row = newest(db, kind)
    return row.key if row else 0
