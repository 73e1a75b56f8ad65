"""What the shelf holds about a question: by its words, by its meaning, and both ranks made one.

    passages = retrieve(db, home, client, "support", "When do you open?", 5)
    answer = client.chat("support:v3", with_context(messages, passages))

Words are found by SQLite's FTS5 and ranked by BM25, meaning by the nearest vectors. Where no
embedding model is at hand, words alone must do, and `emit` is told so.
"""

import json
from collections.abc import Sequence

from ollama_ft.core.catalog import newest
from ollama_ft.core.errors import RuntimeUnavailable
from ollama_ft.core.events import Emit, Note, silent
from ollama_ft.core.home import Home
from ollama_ft.core.shelf_records import Embedder
from ollama_ft.core.sqlite import Database
from ollama_ft.core.words import match_any, to_ask
from ollama_ft.kinds.context import Passage
from ollama_ft.runtime.client import Ollama

# score = Σ 1 / (60 + rank), the constant as in Cormack, Clarke, Büttcher: Reciprocal Rank Fusion
# outperforms Condorcet and individual rank learning methods (SIGIR 2009).
RRF = 60
DEPTH = 50  # ranks that are fused
_COMMON = (
    0.05  # a word in more than this share of chunks tells nothing, if rarer ones are asked too
)
_MANY = 1000  # chunks from which on that is looked at
_TERMS = 48  # words of a question that are looked for in many chunks: those that are rarest there
_MOST_TERMS = 1000  # that are looked at for it


def retrieve(
    db: Database,
    home: Home,
    client: Ollama | None,
    family: str,
    question: str,
    k: int = 5,
    *,
    emit: Emit = silent,
) -> list[Passage]:
    """The `k` passages that most likely answer the question, best first; [] from an empty shelf.

    Looks at the family's documents and at everybody's. Without a client it asks for words alone.
    Safe from several threads, with a connection of its own for each.
    """
    by_words = lexical(db, family, question, DEPTH)
    by_meaning = semantic(db, home, client, family, question, DEPTH, emit) if client else []
    scores = fused([by_words, by_meaning])
    best = sorted(scores, key=lambda chunk: (-scores[chunk], chunk))[:k]
    found_by = {"words": set(by_words), "meaning": set(by_meaning)}
    rows = _placed(db, family, best)
    return [
        Passage(
            **rows[chunk],  # type: ignore[arg-type]
            chunk=chunk,
            score=scores[chunk],
            found_by=tuple(name for name, chunks in found_by.items() if chunk in chunks),
        )
        for chunk in best
    ]


def fused(rankings: Sequence[Sequence[int]]) -> dict[int, float]:
    """Reciprocal rank fusion: the score of each chunk that stands in any of the rankings."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, chunk in enumerate(ranking, start=1):
            scores[chunk] = scores.get(chunk, 0.0) + 1 / (RRF + rank)
    return scores


def lexical(db: Database, family: str, question: str, count: int) -> list[int]:
    """The chunks that share words with the question, by BM25, best first."""
    terms = _telling(db, to_ask(question)[:_MOST_TERMS])
    if not terms:
        return []
    # Chunks of documents that were removed or have changed stay in the index; they are few, or
    # else more is asked for until enough remain.
    wanted = 4 * count
    while True:
        rows = db.execute(
            "select rowid from words where words match ? order by rank limit ?",
            [match_any(terms), wanted],
        ).fetchall()
        shelved = _shelved(db, family, [row[0] for row in rows])
        if len(shelved) >= count or len(rows) < wanted:
            return shelved[:count]
        wanted *= 8


def semantic(
    db: Database,
    home: Home,
    client: Ollama,
    family: str,
    question: str,
    count: int,
    emit: Emit = silent,
) -> list[int]:
    """The chunks whose vectors are nearest to the question's, nearest first.

    Without an embedding model at hand there are none, and `emit` is told why.
    """
    embedder = newest(db, Embedder)
    if embedder is None or not question.strip():
        if embedder is None:
            emit(Note(text="no embedding model is at hand: found by words alone"))
        return []
    try:
        import numpy as np

        from ollama_ft.kinds.embedding import vectors
        from ollama_ft.serve.shelf_index import open_index

        index = open_index(db, home, family, embedder)
        plain = question.encode(errors="replace").decode()  # half a character cannot be sent
        (data,) = vectors(client, embedder.name, embedder.dimensions, [plain])
    except (RuntimeUnavailable, ImportError) as error:
        emit(Note(text=f"no embedding model is at hand: found by words alone ({error})"))
        return []
    return index.search(np.frombuffer(data, "<f2").astype(np.float32), count)


def _telling(db: Database, terms: list[str]) -> list[str]:
    """The rarest of the terms, without those that stand in a great part of all chunks or in none,
    if any others remain; all of them where there are few chunks.

    BM25 gives such words next to no weight, and going through their postings takes all the time.
    """
    (chunks,) = db.execute("select coalesce(max(id), 0) from chunks").fetchone()
    if chunks < _MANY:
        return terms
    bound = int(_COMMON * chunks)
    counted = "select count(*) from (select 1 from words where words match ? limit ?)"
    found = {
        term: db.execute(counted, [match_any([term]), bound + 1]).fetchone()[0] for term in terms
    }
    rare = sorted((term for term in terms if 0 < found[term] <= bound), key=lambda t: found[t])
    return rare[:_TERMS] or terms[:_TERMS]


def _shelved(db: Database, family: str, chunks: Sequence[int]) -> list[int]:
    """Those of the chunks that stand in a document of the family's or everybody's, in order."""
    sql = """
        select distinct chunk from shelf
        where chunk in (select value from json_each(?)) and family in (?, '')
    """
    there = {row[0] for row in db.execute(sql, [json.dumps(chunks), family]).fetchall()}
    return [chunk for chunk in chunks if chunk in there]


def _placed(db: Database, family: str, chunks: Sequence[int]) -> dict[int, dict[str, object]]:
    """Text and place of each chunk; of several places, the first document's."""
    sql = """
        select s.chunk, s.path, s.title, s.page, c.heading, c.text
        from shelf s join chunks c on c.id = s.chunk
        where s.chunk in (select value from json_each(?)) and s.family in (?, '')
        order by s.document desc
    """
    rows = db.query(sql, [json.dumps(chunks), family])
    return {row.pop("chunk"): row for row in rows}
