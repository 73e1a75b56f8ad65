"""What is in a dataset: the figures behind `data check` and `data show`."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ollama_ft.core.conversation import SPLITS, Conversation
from ollama_ft.kinds.containers import Reading, parts
from ollama_ft.kinds.filters import script
from ollama_ft.kinds.formats import find_format, read_part
from ollama_ft.kinds.splits import by_hash, key_of

SHOWN = 20  # bad rows and conflicts that are named; the rest is counted

Placed = tuple[str, Conversation]  # (where it stands: "faq.jsonl, row 7"; the row)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long texts are, in characters."""

    median: int
    longest: int
    longest_at: str  # "faq.jsonl, row 7"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Counts over the rows that are fit, and what is wrong with the others."""

    formats: dict[str, str]  # file name -> format
    rows: int  # fit to learn from, duplicates included
    bad_rows: int
    bad: tuple[str, ...]  # the first SHOWN of them, in words
    splits: dict[str, int]  # rows in each split once duplicates and conflicts are joined
    roles: dict[str, int]  # turns of each role
    dropped_turns: int  # of tools
    multi_turn: int  # rows with more than one question
    questions: Lengths
    answers: Lengths
    duplicates: int
    conflicts: int
    conflicting: tuple[str, ...]  # the first SHOWN of them, in words
    leaks: int  # questions that stand in more than one split
    scripts: dict[str, int]  # rows by the script of their question and answer


def check(files: Sequence[Path], format: str | None = None) -> Report:
    """Read all rows of `files` and report on them. Nothing is written.

    Bad rows are reported, not raised. Memory grows by some hundred bytes a row, not by its text.

    Raises BadInput if a file as a whole cannot be read.
    """
    faults: list[str] = []
    read = [part for path in files for part in parts(path, Reading(format=format))]
    formats = {part.path.name: find_format(part) for part in read}

    def rows() -> Iterator[Placed]:
        for part in read:
            for number, row in read_part(part, lambda e: faults.append(str(e))):
                yield f"{part.path.name}, row {number}", row

    return _report(rows(), formats, faults)


def summarise(rows: Iterable[Conversation]) -> Report:
    """Report on rows that are frozen already; they are named by their place from 1."""
    placed = ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    return _report(placed, {}, [])


class _Tally:
    """What is remembered of each question: enough to see it come again."""

    def __init__(self) -> None:
        self.seen: dict[bytes, tuple[bytes, bytes, str, str]] = {}  # answer, question, split, where
        self.duplicates = 0
        self.conflicts: list[str] = []

    def add(self, where: str, row: Conversation) -> None:
        """Count one row as stages/dataset.build would join it to the others."""
        earlier = self.seen.get(row.prompt_key)
        split = row.split or (earlier[2] if earlier else by_hash(key_of(row)))
        if earlier and earlier[0] == row.answer_key:
            self.duplicates += 1
        elif earlier:
            self.conflicts.append(
                f"{earlier[3]} and {where} answer the same question differently: "
                f"{row.question[:60]!r}"
            )
        self.seen[row.prompt_key] = (row.answer_key, row.question_key, split, where)

    def splits(self) -> dict[str, int]:
        """Rows in each split."""
        counts = Counter(split for _, _, split, _ in self.seen.values())
        return {name: counts[name] for name in SPLITS}

    def leaks(self) -> int:
        """Questions in more than one split."""
        places: defaultdict[bytes, set[str]] = defaultdict(set)
        for _, question, split, _ in self.seen.values():
            places[question].add(split)
        return sum(len(splits) > 1 for splits in places.values())


def _report(rows: Iterable[Placed], formats: dict[str, str], faults: list[str]) -> Report:
    tally = _Tally()
    roles: Counter[str] = Counter()
    scripts: Counter[str] = Counter()
    questions: list[tuple[int, str]] = []
    answers: list[tuple[int, str]] = []
    dropped = multi_turn = 0
    for where, row in rows:
        tally.add(where, row)
        asked = [message.role for message in row.messages]
        roles.update(asked)
        multi_turn += asked.count("user") > 1
        dropped += row.dropped
        scripts[script(f"{row.question}\n{row.answer}")] += 1
        questions.append((len(row.question), where))
        answers.append((len(row.answer), where))
    return Report(
        formats=formats,
        rows=len(questions),
        bad_rows=len(faults),
        bad=tuple(faults[:SHOWN]),
        splits=tally.splits(),
        roles=dict(roles),
        dropped_turns=dropped,
        multi_turn=multi_turn,
        questions=_lengths(questions),
        answers=_lengths(answers),
        duplicates=tally.duplicates,
        conflicts=len(tally.conflicts),
        conflicting=tuple(tally.conflicts[:SHOWN]),
        leaks=tally.leaks(),
        scripts=dict(scripts.most_common()),
    )


def _lengths(placed: list[tuple[int, str]]) -> Lengths:
    longest, where = max(placed, key=lambda one: one[0], default=(0, ""))
    middle = round(median(length for length, _ in placed)) if placed else 0
    return Lengths(median=middle, longest=longest, longest_at=where)
