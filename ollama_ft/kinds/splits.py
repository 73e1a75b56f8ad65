"""Which rows are trained on, which say when to stop, and which are only asked afterwards.

Rows are placed by group (kinds/near): a question and its copy with a typo are never on two sides.
Phrasings that only mean the same are not grouped, see there.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ollama_ft.core.conversation import Conversation
from ollama_ft.kinds.near import Groups, group, plain

SHARES = ((0.7, "train"), (0.9, "validation"), (1.0, "test"))  # 7:2:1, as upper bounds


@dataclass(frozen=True, kw_only=True)
class Placing:
    """What is known of a row when its place is looked for."""

    key: int  # the first 8 bytes of its question_key
    named: str | None = None  # the split that it names, or has from an earlier dataset
    settled: bool = False  # it is of an earlier dataset


Age = Callable[[int], int]


def key_of(row: Conversation) -> int:
    """What places a row: 64 bits of its normalised question's hash."""
    return int.from_bytes(row.question_key[:8], "big")


def by_hash(key: int) -> str:
    """The split that a question hashes to: 7:2:1."""
    place = key / 2**64
    # Rounding can make the largest hashes exactly 1.0: they are test rows as well.
    return next((name for bound, name in SHARES if place < bound), SHARES[-1][1])


def group_rows(rows: Sequence[Conversation]) -> Groups:
    """The groups of near questions among rows."""
    return group([plain(row.question) for row in rows], [row.answer for row in rows])


def place(rows: Sequence[Placing], first: Sequence[int], age: Age | None = None) -> list[str]:
    """The split of each row. `first` names each row's group by one of its members.

    A split that a row names stands. The other rows of its group join the one of an earlier dataset,
    else one that names its split, else all go where the hash of one of them says, so that the
    order of the rows does not matter and rows stay where they are when others come. Where a new row
    brings groups together that were placed apart, it joins the older one: `age` tells the number of
    a settled row's first dataset by its index, and is asked only then.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, head in enumerate(first):
        members[head].append(index)
    splits = [""] * len(rows)
    for indices in members.values():
        common = _common(rows, indices, age)
        for index in indices:
            splits[index] = rows[index].named or common
    return splits


def _common(rows: Sequence[Placing], indices: list[int], age: Age | None) -> str:
    settled = [i for i in indices if rows[i].settled]
    leaders = settled or [i for i in indices if rows[i].named] or indices
    if age and rows[leaders[0]].settled and len({rows[i].named for i in leaders}) > 1:
        oldest = min(age(i) for i in leaders)
        leaders = [i for i in leaders if age(i) == oldest]
    leader = min(leaders, key=lambda i: (_rank(rows[i].key), rows[i].named or ""))
    return rows[leader].named or by_hash(rows[leader].key)


def _rank(key: int) -> int:
    """Who speaks for a group: not the smallest key itself, by which few groups were ever a test."""
    mixed = (key ^ key >> 32) * 0xD6E8FEB86659FD93 % 2**64
    return (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 % 2**64
