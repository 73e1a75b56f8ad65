"""Which languages rows are in, by a fair sample of them.

py3langid tells 97 languages by their letters (Lui & Baldwin 2011); a text of a few words is told
wrongly now and then, so what is given are shares over the rows, never a verdict on one.
"""

import random
from collections import Counter

LOOKED_AT = 2_000  # texts; a share of one half is then right to within 0.022 (95 %)
LONGEST = 500  # characters of a text that are looked at
LEAST = 0.02  # languages with a smaller share are most likely errors on short texts: "other"


class Sample:
    """Texts that go by, of which LOOKED_AT are kept, each with the same chance (Vitter's R)."""

    def __init__(self) -> None:
        self._seen = 0
        self._kept: list[str] = []
        self._chance = random.Random(0)

    def see(self, text: str) -> None:
        """Let one text go by."""
        self._seen += 1
        if len(self._kept) < LOOKED_AT:
            self._kept.append(text[:LONGEST])
        elif (place := int(self._chance.random() * self._seen)) < LOOKED_AT:
            self._kept[place] = text[:LONGEST]

    def shares(self) -> dict[str, float]:
        """Language (ISO 639-1) → share of the texts, the largest first; they sum to 1."""
        if not self._kept:
            return {}
        from py3langid.langid import classify

        counts = Counter(classify(text)[0] for text in self._kept)
        total = len(self._kept)
        large = {name: n / total for name, n in counts.most_common() if n / total >= LEAST}
        rest = 1 - sum(large.values())
        return large | ({"other": rest} if rest > 1e-9 else {})
