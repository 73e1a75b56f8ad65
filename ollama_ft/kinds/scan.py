"""Rows seen one after the other, and how they hang together: for `data check` and `data clean`.

Of each row some ninety bytes stay in memory, and its texts on disk (kinds/spool), so that a
million rows are no more trouble than a thousand; what it took is printed by benchmarks/data.py.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ollama_ft.core.conversation import SPLITS, Conversation
from ollama_ft.kinds.near import Groups, group, plain
from ollama_ft.kinds.splits import Placing, place
from ollama_ft.kinds.spool import Picked, Spool

STANDS, DUPLICATE, REPLACED, NEAR = range(4)  # what became of a row


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a row stands: in which file (its name; "" for rows that are in none), and where."""

    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.number}" if self.file else f"row {self.number}"


def joined(earlier: Conversation, later: Conversation) -> Conversation:
    """The one row that becomes of two that ask the same in the same context.

    Where both answer the same, the earlier one with what the later one brings; else the later one.
    """
    split = later.split or earlier.split
    if earlier.answer_key != later.answer_key:
        return replace(later, split=split)
    return replace(
        earlier,
        split=split,
        accept=later.accept or earlier.accept,
        passages=later.passages or earlier.passages,
    )


class Scan:
    """Rows in the order in which they came, by index from 0.

    Rows that ask the same in the same context are one row (see `joined`): an equal answer makes
    the later one a duplicate; another answer replaces the earlier one.
    """

    def __init__(self) -> None:
        self.files: dict[str, int] = {}  # name → its number, in the order of coming
        self._file = array("H")
        self._number = array("q")
        self._prompts: dict[int, int] = {}  # prompt key → the row that stands
        self._answers = array("Q")
        self._questions = array("Q")
        self._systems = array("Q")
        self._splits = bytearray()  # 0: names none; else 1 + its index in SPLITS
        self.state = bytearray()  # STANDS, DUPLICATE or REPLACED
        self.twin = array("q")  # the row that it repeats, or that replaced it; else itself
        self.asked = Spool()  # plain questions
        self.talk = Spool()  # plain earlier turns and question, where there are earlier turns
        self.said = Spool()  # plain answers
        self.multi_turn = 0

    def __len__(self) -> int:
        return len(self.state)

    def add(self, at: Place, row: Conversation) -> int:
        """Take one row in; return its index."""
        index = len(self)
        self._file.append(self.files.setdefault(at.file, len(self.files)))
        self._number.append(at.number)
        self._answers.append(_brief(row.answer_key))
        self._questions.append(_brief(row.question_key))
        turns = row.prompt
        system = turns[0].content if turns and turns[0].role == "system" else ""
        self._systems.append(hash(system) & 0xFFFFFFFFFFFFFFFF)
        self._splits.append(0 if row.split is None else 1 + SPLITS.index(row.split))
        self.asked.append(plain(row.question))
        talked = [m.content for m in turns if m.role != "system"]
        self.multi_turn += len(talked) > 1
        self.talk.append(plain("\n".join(talked)) if len(talked) > 1 else "")
        self.said.append(plain(row.answer))
        self._join(index, _brief(row.prompt_key))
        return index

    def _join(self, index: int, prompt: int) -> None:
        earlier = self._prompts.get(prompt)
        self.state.append(STANDS)
        self.twin.append(index)
        if earlier is None:
            self._prompts[prompt] = index
            return
        later = self._splits[index] or self._splits[earlier]
        if self._answers[earlier] == self._answers[index]:
            self.state[index], self.twin[index] = DUPLICATE, earlier
            self._splits[earlier] = later
        else:
            self.state[earlier], self.twin[earlier] = REPLACED, index
            self._splits[index] = later
            self._prompts[prompt] = index

    def place(self, index: int) -> Place:
        """Where the row came from."""
        return Place(file=list(self.files)[self._file[index]], number=self._number[index])

    def with_state(self, state: int) -> Iterator[int]:
        """The rows of which this became."""
        return (index for index, found in enumerate(self.state) if found == state)

    @cached_property
    def roots(self) -> Sequence[int]:
        """For each row the standing one that it was joined to; itself if it stands."""
        found = array("q", range(len(self)))
        for index in reversed(range(len(self))):  # what replaces a row came after it
            if self.state[index] == REPLACED:
                found[index] = found[self.twin[index]]
        for index in self.with_state(DUPLICATE):
            found[index] = found[self.twin[index]]
        return found

    @cached_property
    def standing(self) -> Sequence[int]:
        """The rows that are neither duplicates nor replaced. Ask when all rows are in."""
        return array("q", self.with_state(STANDS))

    @cached_property
    def groups(self) -> Groups:
        """Which standing rows are nearly the same; by their place in `standing`.

        Compared is all that is asked but the system message.
        """
        said = Picked(self.said, self.standing)
        return group(Picked(self.asked, self.standing, self.talk), said)

    def near(self) -> Iterator[tuple[int, int]]:
        """(row, the earlier row that it is nearly the same as), under one system message."""
        for k, head in enumerate(self.groups.first):
            row, earlier = self.standing[k], self.standing[head]
            if head != k and self._systems[row] == self._systems[earlier]:
                yield row, earlier

    def similar(self) -> Iterator[tuple[int, int]]:
        """Pairs of rows that ask nearly the same and answer differently."""
        for one, other in self.groups.similar:
            yield self.standing[one], self.standing[other]

    def splits(self) -> list[str]:
        """The split that each standing row would be frozen in, by its place in `standing`."""
        placings = [
            Placing(key=self._questions[i], named=_split(self._splits[i])) for i in self.standing
        ]
        if all(placing.named for placing in placings):
            return place(placings, range(len(placings)))
        if not self.multi_turn:
            return place(placings, self.groups.first)
        said = Picked(self.said, self.standing)
        return place(placings, group(Picked(self.asked, self.standing), said).first)

    def across(self, splits: Sequence[str]) -> int:
        """How many questions stand in more than one split."""
        seen: dict[int, int] = {}
        for index, split in zip(self.standing, splits, strict=True):
            key = self._questions[index]
            seen[key] = seen.get(key, 0) | 1 << SPLITS.index(split)
        return sum(bits.bit_count() > 1 for bits in seen.values())

    def count(self) -> Counter[int]:
        """How many rows became what."""
        return Counter(self.state)


def _brief(key: bytes) -> int:
    # 64 of 256 bits: among a million rows two differ and agree in them once in 37 million times.
    return int.from_bytes(key[:8], "big")


def _split(code: int) -> str | None:
    return SPLITS[code - 1] if code else None
