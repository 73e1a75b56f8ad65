"""No topic and no client owns the model: of each, only so many rows, the best first."""

from collections import Counter
from collections.abc import Callable, Sequence

from ollama_ft.kinds.harvest.candidate import Candidate, Left, Settings, Sieved


def by_topic(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """A topic is the passage that was found first or, where none was, the answer."""
    return _cap(candidates, lambda one: one.topic or one.row.answer_key.hex(), settings.per_topic)


def by_client(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """A client gives at most `per_client` rows, or half of all, whichever is more.

    A single client is not held back: there is nobody whose rows it would push aside.
    """
    if len({one.client for one in candidates}) < 2:
        return Sieved(kept=candidates)
    most = max(settings.per_client, len(candidates) // 2)
    return _cap(candidates, lambda one: one.client, most)


def _cap(candidates: Sequence[Candidate], key: Callable[[Candidate], str], most: int) -> Sieved:
    taken: Counter[str] = Counter()
    kept: set[str] = set()
    for one in sorted(candidates, key=lambda one: one.rank, reverse=True):
        taken[key(one)] += 1
        if taken[key(one)] <= most:
            kept.add(one.uid)
    return Sieved(
        kept=[one for one in candidates if one.uid in kept],
        left=[
            Left(candidate=one, why=f"more than {most}")
            for one in candidates
            if one.uid not in kept
        ],
    )
