"""The shelf: documents, their passages, and what an embedding model made of them."""

from dataclasses import dataclass

from ollama_ft.core.records import Record


@dataclass(frozen=True, kw_only=True)
class Document(Record):
    """A file that was read for its knowledge; of one path in one family, the newest row counts."""

    table = "documents"
    family: str  # "" = for every family
    path: str
    digest: str  # of the file
    kind: str  # the reader's name: "markdown", "pdf" …
    title: str
    size: int  # bytes
    passages: int
    removed: int = 0  # 1: taken off the shelf by this row


@dataclass(frozen=True, kw_only=True)
class Chunk(Record):
    """A passage's text, once however many documents hold it. `digest` is of heading and text."""

    table = "chunks"
    digest: str
    heading: str  # the headings above it: "Shipping › Abroad"
    text: str
    tokens: int  # as the embedding model counts them, nearly where its vocabulary is not at hand


@dataclass(frozen=True, kw_only=True)
class Placement(Record):
    """Where a chunk stands in a document."""

    table = "placements"
    document: int
    chunk: int
    place: int  # 0, 1, 2 … down the document
    page: int | None


@dataclass(frozen=True, kw_only=True)
class Embedder(Record):
    """An embedding model as a runtime has it. `digest` is of its GGUF."""

    table = "embedders"
    name: str  # the pinned name, which nobody's pull moves
    digest: str
    dimensions: int


@dataclass(frozen=True, kw_only=True)
class Vector(Record):
    """A chunk's embedding: `data` is float16, little-endian, `dimensions` of them, length one."""

    table = "vectors"
    chunk: int
    embedder: int
    data: bytes


RECORDS: tuple[type[Record], ...] = (Document, Chunk, Placement, Embedder, Vector)
