"""The vectors of one family's shelf as a usearch index: a cache file, made again when it is stale.

The truth is the table `vectors`. The file's name is the digest of what is in it, which model and
which chunks, so a stale one is never opened by mistake; when the shelf has changed, the last file
is brought up to date if little has changed, else the index is built anew. A vector's key is made of
its chunk's digest: chunks of another catalog may have the same ids.
"""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core.errors import OutOfResources
from ollama_ft.core.files import write_bytes
from ollama_ft.core.home import Home
from ollama_ft.core.shelf_records import Embedder
from ollama_ft.core.sqlite import Database

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from usearch.index import Index

_REWORK = 0.2  # share of chunks that may have changed for an index to be brought up to date
_EXPANSION = 128  # candidates kept while searching; usearch's 64 lost 2 of 100 on clustered data


@dataclass(frozen=True, kw_only=True)
class ShelfIndex:
    """An index that is open. Searching is safe from several threads."""

    index: "Index"
    chunks: dict[int, int]  # the id of each chunk, by its key
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def search(self, vector: "npt.NDArray[np.float32]", count: int) -> list[int]:
        """The ids of the nearest chunks, nearest first. `vector`: (dimensions,), length one."""
        if not len(self.index):
            return []
        with self._one_at_a_time:
            found = self.index.search(vector, count)
        return [self.chunks[int(key)] for key in found.keys]


_open: dict[tuple[str, str, int], tuple[object, ShelfIndex]] = {}  # what this process has open
_opening = threading.Lock()


def open_index(db: Database, home: Home, family: str, embedder: Embedder) -> ShelfIndex:
    """The index of what the family knows, its own and everybody's, as it is now.

    A process that asks again finds it open, as long as no row has come.
    """
    (documents,) = db.execute("select coalesce(max(id), 0) from documents").fetchone()
    (vectors,) = db.execute("select coalesce(max(id), 0) from vectors").fetchone()
    state = (documents, vectors)  # all that counts, since rows are only ever appended
    place = (str(home.catalog), family, embedder.key)
    with _opening:
        known = _open.get(place)
        if known is None or known[0] != state:
            shelf = _Shelf(db=db, home=home, family=family, embedder=embedder)
            known = _open[place] = (state, _opened(shelf))
    return known[1]


@dataclass(frozen=True, kw_only=True)
class _Shelf:
    db: Database
    home: Home
    family: str
    embedder: Embedder


def _opened(shelf: _Shelf) -> ShelfIndex:
    chunks = _chunks(shelf)
    index = _index(shelf, chunks)
    index.expansion_search = _EXPANSION
    return ShelfIndex(index=index, chunks=chunks)


def _index(shelf: _Shelf, chunks: dict[int, int]) -> "Index":
    folder = shelf.home.data("knowledge")
    scope = hashlib.sha256(f"{shelf.family}\0{shelf.embedder.digest}".encode()).hexdigest()[:8]
    path = folder / f"{scope}-{_digest(shelf.embedder, chunks)}.usearch"
    kept = _load(path, len(chunks))
    if kept is not None:
        return kept
    others = sorted(folder.glob(f"{scope}-*.usearch"))
    index = _updated(shelf, others, chunks) or _built(shelf, chunks)
    with contextlib.suppress(OSError, OutOfResources):  # without the file it is made again
        write_bytes(path, index.save() or b"")
        for other in set(others) - {path}:
            other.unlink(missing_ok=True)
    return index


def _chunks(shelf: _Shelf) -> dict[int, int]:
    """The id of each chunk that is on the shelf and has a vector, by its key."""
    sql = """
        select c.id, c.digest from chunks c
        where c.id in (select chunk from shelf where family in (?, ''))
          and c.id in (select chunk from vectors where embedder = ?)
        order by c.id
    """
    rows = shelf.db.execute(sql, [shelf.family, shelf.embedder.key])
    return {int(digest.removeprefix("sha256:")[:16], 16): chunk for chunk, digest in rows}


def _digest(embedder: Embedder, chunks: dict[int, int]) -> str:
    content = hashlib.sha256(embedder.digest.encode())
    for key in sorted(chunks):
        content.update(key.to_bytes(8))
    return content.hexdigest()


def _load(path: Path, count: int) -> "Index | None":
    """The index in the file, mapped into memory; None if it is not there or is
    damaged."""
    from usearch.index import Index

    if not path.is_file():
        return None
    try:
        index = Index.restore(path, view=True)
    except (RuntimeError, ValueError, OSError):
        return None
    return index if index is not None and len(index) == count else None


def _updated(shelf: _Shelf, others: list[Path], chunks: dict[int, int]) -> "Index | None":
    """The last index with what is gone taken out and what is new put in; None if that is much."""
    from usearch.index import Index

    if not others:
        return None
    try:
        index = Index.restore(others[0])
    except (RuntimeError, ValueError, OSError):
        return None
    if index is None or index.ndim != shelf.embedder.dimensions:
        return None
    there = {int(key) for key in index.keys}
    gone, new = there - chunks.keys(), {key: chunks[key] for key in chunks if key not in there}
    if len(gone) + len(new) > _REWORK * max(len(there), 1):
        return None
    if gone:
        index.remove(sorted(gone))
    _fill(shelf, index, new)
    return index


def _built(shelf: _Shelf, chunks: dict[int, int]) -> "Index":
    from usearch.index import Index

    index = Index(ndim=shelf.embedder.dimensions, metric="cos", dtype="f16")
    _fill(shelf, index, chunks)
    return index


def _fill(shelf: _Shelf, index: "Index", chunks: dict[int, int]) -> None:
    import numpy as np

    keys_of = {chunk: key for key, chunk in chunks.items()}
    wanted = list(keys_of)
    for at in range(0, len(wanted), 5000):
        part = wanted[at : at + 5000]
        sql = """
            select chunk, data from vectors
            where embedder = ? and chunk in (select value from json_each(?))
        """
        rows = shelf.db.execute(sql, [shelf.embedder.key, json.dumps(part)]).fetchall()
        keys = np.array([keys_of[chunk] for chunk, _ in rows], np.uint64)
        data = np.frombuffer(b"".join(row for _, row in rows), "<f2")
        index.add(keys, data.reshape(len(rows), shelf.embedder.dimensions))
