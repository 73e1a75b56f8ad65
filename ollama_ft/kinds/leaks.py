"""Rows to learn from that give away what a suite asks.

Four ways, from the surest to the one that only guesses: the question itself; a near question
(kinds/near); a row in whose text most of the question's eight-word pieces stand, wherever they
are; a row that means the same, by embedding. Pure: questions and rows in, finds out.

Eight words are the piece by which PaLM's authors looked for overlap, with 70 % of them as the
bound (Chowdhery et al. 2022, section 8). A Chinese word counts as a character and a half.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import Conversation
from ollama_ft.kinds.near import BANDS, ROWS, is_near, plain, signatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WAYS = ("equal", "near", "8-gram", "meaning")
WORDS = 8  # of a piece
SIGNS = 12  # the same in Chinese characters
FEWEST = 5  # words (or as many half again in characters) of a question that can be told by pieces
SHARE = 0.7  # of a question's pieces that stand in the row
MEANING = 0.92  # least cosine of two embeddings

# Texts to vectors of length 1, one row each.
Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]

_UNIT = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One row and the question that it gives away."""

    row: int  # index among the rows that were asked about
    question: int  # index among the questions
    way: str  # one of WAYS
    share: float  # of pieces, or the cosine; 1.0 for an equal or near question


class Asked:
    """The questions of suites, ready to be looked for in rows of any number."""

    def __init__(self, questions: Sequence[Conversation], embed: Embed | None = None) -> None:
        self.questions = questions
        self._embed = embed
        self._keys = {row.question_key: i for i, row in reversed(list(enumerate(questions)))}
        self._plain = [plain(row.question) for row in questions]
        self._pieces = [_pieces(text) for text in self._plain]
        self._by_piece: defaultdict[int, list[int]] = defaultdict(list)
        for i, pieces in enumerate(self._pieces):
            for piece in pieces:
                self._by_piece[piece].append(i)
        self._sizes = {_size(text) for text in self._plain}
        self._bands = _bands(signatures(self._plain)) if questions else None
        self._vectors = _vectors(embed, self._plain) if embed and questions else None

    def leaks(self, rows: Sequence[Conversation]) -> list[Leak]:
        """At most one find for each row, the surest one; in the rows' order.

        Takes about as much memory as a few thousand rows when given a few thousand at a time.
        """
        found: dict[int, Leak] = {}
        if self.questions and rows:
            asked = [plain(row.question) for row in rows]
            for leak in (
                *self._equal(rows),
                *self._near(asked),
                *self._told(rows),
                *self._meant(asked),
            ):
                found.setdefault(leak.row, leak)
        return [found[row] for row in sorted(found)]

    def _equal(self, rows: Sequence[Conversation]) -> Iterable[Leak]:
        for i, row in enumerate(rows):
            if (question := self._keys.get(row.question_key)) is not None:
                yield Leak(row=i, question=question, way="equal", share=1.0)

    def _near(self, asked: Sequence[str]) -> Iterable[Leak]:
        import numpy as np

        assert self._bands is not None, "there are questions"
        bands = _bands(signatures(asked))
        seen: set[tuple[int, int]] = set()
        for band in range(BANDS):
            order = np.argsort(self._bands[:, band], kind="stable")
            keys = self._bands[order, band]
            low = np.searchsorted(keys, bands[:, band], "left")
            high = np.searchsorted(keys, bands[:, band], "right")
            for row in np.flatnonzero(low < high).tolist():
                for question in order[low[row] : high[row]].tolist():
                    if (row, question) not in seen:
                        seen.add((row, question))
                        if asked[row] and is_near(asked[row], self._plain[question]):
                            yield Leak(row=row, question=question, way="near", share=1.0)

    def _told(self, rows: Sequence[Conversation]) -> Iterable[Leak]:
        for i, row in enumerate(rows):
            text = plain("\n".join(message.content for message in row.messages))
            counts: defaultdict[int, int] = defaultdict(int)
            for piece in _pieces(text, self._sizes) & self._by_piece.keys():
                for question in self._by_piece[piece]:
                    counts[question] += 1
            shares = ((counts[q] / len(self._pieces[q]), -q) for q in counts)
            share, question = max(shares, default=(0.0, 0))
            if share >= SHARE:
                yield Leak(row=i, question=-question, way="8-gram", share=share)

    def _meant(self, asked: Sequence[str]) -> Iterable[Leak]:
        if self._vectors is None or self._embed is None:
            return
        cosines = _vectors(self._embed, asked) @ self._vectors.T  # (rows, questions)
        best = cosines.argmax(axis=1)
        for i, question in enumerate(best.tolist()):
            if (share := float(cosines[i, question])) >= MEANING:
                yield Leak(row=i, question=question, way="meaning", share=share)


def _vectors(embed: Embed, texts: Sequence[str]) -> "NDArray[np.float32]":
    import numpy as np

    return np.asarray(embed([text or " " for text in texts]), np.float32)


def _bands(signed: "NDArray[np.uint32]") -> "NDArray[np.uint64]":
    """One key for each band of each signature, (texts, BANDS)."""
    import numpy as np

    parts = signed.reshape(-1, BANDS, ROWS).astype(np.uint64)
    keys = np.zeros(parts.shape[:2], np.uint64)
    for place in range(ROWS):
        keys = (keys ^ parts[:, :, place]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _size(text: str) -> int:
    """How many units the pieces of a question have; 0 if it is too short to be told by any.

    WORDS, or SIGNS for Chinese; all of a question that is shorter.
    """
    units = _UNIT.findall(text)
    chinese = 2 * sum(len(unit) == 1 and unit > "\u303f" for unit in units) > len(units)
    least, whole = (FEWEST * 3 // 2, SIGNS) if chinese else (FEWEST, WORDS)
    return 0 if len(units) < least else min(len(units), whole)


def _pieces(text: str, sizes: Iterable[int] | None = None) -> set[int]:
    """The hashes of a plain text's pieces: of its own size, or of all of `sizes`."""
    units = _UNIT.findall(text)
    found: set[int] = set()
    for size in sizes if sizes is not None else (_size(text),):
        if size:
            found |= {hash(tuple(units[i : i + size])) for i in range(len(units) - size + 1)}
    return found
