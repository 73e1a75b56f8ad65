"""SentencePiece's merging as llama.cpp does it: the best-scored pair first, of equals the leftmost.

A merge table cannot stand in for this: one token can come from several pairs, which must share a
rank, or runs such as 33 spaces are cut differently. So the algorithm is our own, word by word, with
the words remembered.
"""

import heapq
from collections.abc import Sequence
from functools import lru_cache

from ollama_ft.core.errors import BadWeights

SPACE = "\u2581"  # SentencePiece's visible space
REMEMBERED_WORDS = 1 << 16


class SentencePiece:
    """Cuts texts without special tokens into ids. Safe to use from several threads."""

    def __init__(self, ids: dict[str, int], scores: Sequence[float]) -> None:
        self._ids = ids
        self._scores = scores
        # Characters that stand before a space inside some token: only there can a merge reach
        # across the start of a word, so everywhere else the text may be cut without changing it.
        self._glue = frozenset(
            token[at - 1]
            for token in ids
            if SPACE in token[1:]
            for at in range(1, len(token))
            if token[at] == SPACE
        )
        self._word = lru_cache(REMEMBERED_WORDS)(self._merge)

    def encode(self, text: str) -> list[int]:
        """The ids of a text whose spaces are still spaces."""
        ids: list[int] = []
        for word in self._words(text.replace(" ", SPACE)):
            ids.extend(self._word(word))
        return ids

    def _words(self, text: str) -> list[str]:
        words: list[str] = []
        start = 0
        at = text.find(SPACE, 1)
        while at != -1:
            if text[at - 1] not in self._glue:
                words.append(text[start:at])
                start = at
            at = text.find(SPACE, at + 1)
        if start < len(text):
            words.append(text[start:])
        return words

    def _merge(self, word: str) -> tuple[int, ...]:
        """Join neighbours until no two of them form a token."""
        parts: list[str] = list(word)  # "" once joined to the part on its left
        after = list(range(1, len(parts) + 1))
        before = list(range(-1, len(parts) - 1))
        queue: list[tuple[float, int, int, int]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(parts):
                token = self._ids.get(parts[left] + parts[right])
                if token is not None:
                    size = len(parts[left]) + len(parts[right])
                    heapq.heappush(queue, (-self._scores[token], left, right, size))

        for index in range(1, len(parts)):
            offer(index - 1, index)
        while queue:
            _, left, right, size = heapq.heappop(queue)
            if not parts[left] or not parts[right] or len(parts[left]) + len(parts[right]) != size:
                continue  # one of the two has been joined to another since
            parts[left] += parts[right]
            parts[right] = ""
            after[left] = after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return tuple(token for part in parts if part for token in self._ids_of(part))

    def _ids_of(self, part: str) -> list[int]:
        token = self._ids.get(part)
        if token is not None:
            return [token]
        return [self._byte(byte) for byte in part.encode()]

    def _byte(self, byte: int) -> int:
        token = self._ids.get(f"<0x{byte:02X}>", self._ids.get(chr(byte)))
        if token is None:
            raise BadWeights(f"the vocabulary has no token for the byte {byte:#04x}")
        return token
