"""Texts that are nearly the same: other punctuation, a typo, another order of the words.

MinHash signatures (Broder 1997) with banding propose pairs, an edit distance decides. Words are
cut into pieces of three letters with their edges, so that their order does not matter; Chinese,
Japanese and Korean, which write few spaces, into single characters and pairs.

The threshold is high on purpose. "Who founded it?" and "Who are the founders?" mean the same and
are not near: phrasings of one question must be able to stand on both sides of a split, or nothing
would be left to ask. "Version 3?" and "version 4?" are never near: numbers must be equal.

The signatures are made for many texts at once; datasketch's, one text at a time, take longer by
the factor that benchmarks/data.py prints.
"""

import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_ft.core.conversation import fold

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Signatures = NDArray[np.uint32]  # (texts, BANDS * ROWS)
    Pairs = NDArray[np.int64]  # (pairs, 2)

SAME = 0.9  # least similarity of two near texts: at most one edit in ten letters
REORDERED = 0.95  # the same with the words (Chinese: the characters) sorted
BANDS, ROWS = 20, 3  # a pair that shares half of its pieces is proposed with 1-(1-.5³)²⁰ = 93 %
WINDOW = 6  # neighbours that each member of a bucket is compared with: bounds the work
PROPOSED = 0.35  # least share of equal signature places that is worth an edit distance
RARE = 3  # of its pieces that most others do not have, each of which proposes pairs as well
COUNTED = 1 << 20  # counters of pieces, shared by those whose hashes meet
BATCH = 20_000  # texts whose signatures are made at once

_BETWEEN = re.compile(r"[\W_]+")
_NUMBERS = re.compile(r"\d+|第[一二三四五六七八九十百]+")
_CHINESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


def plain(text: str) -> str:
    """The form in which texts are compared: folded, words between single spaces, no punctuation."""
    return _BETWEEN.sub(" ", fold(text)).strip()


def is_near(one: str, other: str) -> bool:
    """Whether two plain texts are nearly the same. Symmetric; a text is near itself."""
    return _numbers(one) == _numbers(other) and _alike(one, other)


def _alike(one: str, other: str) -> bool:
    from rapidfuzz.distance import OSA

    a, b = one.replace(" ", ""), other.replace(" ", "")
    if OSA.normalized_similarity(a, b, score_cutoff=SAME):
        return True
    return bool(OSA.normalized_similarity(_sorted(one), _sorted(other), score_cutoff=REORDERED))


EQUAL, LIKE, UNLIKE = range(3)


def _compare(one: str, other: str) -> int:
    """Two plain texts with the same numbers: equal but for the order, alike, or neither."""
    if one == other or _sorted(one) == _sorted(other):
        return EQUAL
    return LIKE if _alike(one, other) else UNLIKE


def _sorted(text: str) -> str:
    if _CHINESE.search(text):
        return "".join(sorted(text.replace(" ", "")))
    return " ".join(sorted(text.split()))


@dataclass(frozen=True, kw_only=True)
class Groups:
    """What near questions there are among many.

    Questions are of one group if they are the same but for punctuation and order, or if they are
    near and have the same answer. Near questions with different answers ("the capital of Mali",
    "… of Malta") are not grouped but told: two things, or one thing told in two ways.
    """

    first: Sequence[int]  # for each question the index of the first one in its group
    similar: Sequence[tuple[int, int]]  # near, with different answers; each index at least once


def group(questions: Sequence[str], answers: Sequence[str]) -> Groups:
    """Group questions (plain texts) with their answers (as they stand).

    In a crowd of alike questions only a few neighbours of each are compared, so that the work
    grows with their number; what is connected over others still comes together. Empty questions
    are alone.
    """
    root = array("q", range(len(questions)))
    similar: list[tuple[int, int]] = []
    told: set[int] = set()

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for one, other in (pair for pairs in _proposed(questions) for pair in pairs.tolist()):
        low, high = sorted((find(one), find(other)))
        if low == high:
            continue
        alike = _compare(questions[one], questions[other])
        if alike == EQUAL or (
            alike == LIKE and is_near(plain(answers[one]), plain(answers[other]))
        ):
            root[high] = low
        elif alike == LIKE and not told >= {one, other}:
            similar.append((one, other))
            told |= {one, other}
    return Groups(first=array("q", map(find, range(len(questions)))), similar=similar)


def _proposed(texts: Sequence[str]) -> "Iterator[Pairs]":
    """Pairs that share a band and their numbers, and enough of the rest; some pairs twice."""
    import numpy as np

    count = len(texts)
    signed = np.empty((count, BANDS * ROWS), np.uint32)
    numbers = np.empty(count, np.uint64)
    seen = np.zeros(COUNTED, np.uint32)
    for start in range(0, count, BATCH):
        some = [texts[index] for index in range(start, min(start + BATCH, count))]
        pieces = _pieces(some)
        signed[start : start + len(some)] = _signed(len(some), *pieces)
        numbers[start : start + len(some)] = [_numbers(text) for text in some]
        seen += np.bincount(pieces[0] % COUNTED, minlength=COUNTED).astype(np.uint32)
    kept = np.flatnonzero((signed != 0xFFFFFFFF).any(axis=1))
    brief = signed.astype(np.uint8)  # enough to see which places agree
    for band in range(BANDS):
        key = numbers[kept]
        for place in range(band * ROWS, (band + 1) * ROWS):
            key = (key ^ signed[kept, place]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        # Within a bucket, by another place of the signature: what is alike stands together.
        order = np.lexsort((signed[kept, (band * ROWS + ROWS) % (BANDS * ROWS)], key))
        yield from _of_band(key[order], kept[order], brief, band)
    del signed
    yield from _by_rare_pieces(texts, seen, numbers, brief)


def _by_rare_pieces(
    texts: Sequence[str],
    seen: "NDArray[np.uint32]",
    numbers: "NDArray[np.uint64]",
    brief: "NDArray[np.uint8]",
) -> "Iterator[Pairs]":
    """Pairs that share one of their rarest pieces: how the few of a kind meet in a crowd.

    Where hundreds of questions differ in one word, all of them share their bands, and WINDOW
    neighbours are a small part of them. What the word has for itself, its own copies share.
    """
    import numpy as np

    rare = np.zeros((len(texts), RARE), np.uint64)
    for start in range(0, len(texts), BATCH):
        some = [texts[index] for index in range(start, min(start + BATCH, len(texts)))]
        hashes, rows = _pieces(some)
        often = seen[hashes % COUNTED]
        shared = often > 1
        hashes, rows, often = hashes[shared], rows[shared], often[shared]
        order = np.lexsort((hashes, often, rows))
        hashes, rows = hashes[order], rows[order]
        fresh = np.flatnonzero(np.diff(hashes, prepend=0) != 0)
        hashes, rows = hashes[fresh], rows[fresh]
        begins = np.searchsorted(rows, np.arange(len(some)))
        place = np.arange(len(rows)) - begins[rows]
        first = place < RARE
        rare[start + rows[first], place[first]] = hashes[first]
    for band in range(RARE):
        kept = np.flatnonzero(rare[:, band])
        key = rare[kept, band] ^ (numbers[kept] << np.uint64(32))
        order = np.lexsort((rare[kept, (band + 1) % RARE], key))
        yield from _of_band(key[order], kept[order], brief, 0, 3 * WINDOW)


def _numbers(text: str) -> int:
    found = sorted(_NUMBERS.findall(text))
    return zlib.crc32(" ".join(found).encode()) if found else 0


def _of_band(
    keys: "NDArray[np.uint64]",
    places: "NDArray[np.int64]",
    brief: "NDArray[np.uint8]",
    band: int,
    window: int = WINDOW,
) -> "Iterator[Pairs]":
    """Neighbours with one key that agree in enough places, and in no band before this one.

    (Those that do have been neighbours there, or stood in a crowd: see _by_rare_pieces.)
    """
    import numpy as np

    for step in range(1, window + 1):
        same = np.flatnonzero(keys[:-step] == keys[step:])
        for start in range(0, len(same), BATCH):
            some = same[start : start + BATCH]
            one, other = places[some], places[some + step]
            equal = brief[one] == brief[other]
            before = equal.reshape(-1, BANDS, ROWS)[:, :band].all(axis=2).any(axis=1)
            kept = (equal.sum(axis=1) >= PROPOSED * BANDS * ROWS) & ~before
            yield np.stack((one[kept], other[kept]), axis=1)


def signatures(texts: Sequence[str]) -> "Signatures":
    """MinHash signatures of plain texts, (texts, BANDS * ROWS); all ones for an empty text.

    The share of places in which two signatures agree estimates the share of pieces that the texts
    have in common (Jaccard).
    """
    return _signed(len(texts), *_pieces(texts))


def _signed(count: int, hashes: "NDArray[np.uint32]", rows: "NDArray[np.int64]") -> "Signatures":
    import numpy as np

    result = np.full((count, BANDS * ROWS), 0xFFFFFFFF, np.uint32)
    if not len(hashes):
        return result
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    present = rows[starts]
    chance = np.random.default_rng(1)
    factors = chance.integers(0, 1 << 31, BANDS * ROWS, dtype=np.uint32) * np.uint32(2)
    offsets = chance.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32)
    for place in range(BANDS * ROWS):
        mixed = hashes * (factors[place] + np.uint32(1)) + offsets[place]
        mixed ^= mixed >> np.uint32(15)
        result[present, place] = np.minimum.reduceat(mixed, starts)
    return result


def _pieces(texts: Sequence[str]) -> "tuple[NDArray[np.uint32], NDArray[np.int64]]":
    """The hash of every piece of every text, and the index of the text it is of; in order."""
    import numpy as np

    # One line for all: " who founded it " + " how much " …, and for each letter its text.
    padded = [f" {text} " for text in texts]
    letters = np.frombuffer("".join([*padded, "  "]).encode("utf-32-le"), np.uint32)
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
    first, second, third = letters[:-2], letters[1:-1], letters[2:]
    chinese = (
        ((letters >= 0x3040) & (letters <= 0x30FF))
        | ((letters >= 0x3400) & (letters <= 0x9FFF))
        | ((letters >= 0xAC00) & (letters <= 0xD7A3))
        | (letters >= 0x20000)
    )
    single = chinese[:-2]
    pair = single & chinese[1:-1]
    # Three letters around one that is no space, none Chinese: " wh", "who", "ho ".
    word = (second != 32) & ~(single | chinese[1:-1] | chinese[2:])
    low = first * np.uint32(0x9E3779B1)
    two = low + second * np.uint32(0x85EBCA77)
    longer = np.where(word, two + third * np.uint32(0xC2B2AE3D), two)
    both = np.stack((longer, low), axis=1).ravel()
    valid = np.stack((pair | word, single), axis=1).ravel()
    hashes = both[valid]
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    return hashes, np.repeat(rows[: len(first)], 2)[valid]
