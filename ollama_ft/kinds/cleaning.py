"""What is left of rows when they are cleaned, and why the others are not: `data clean`.

The rows go by once, are repaired and redacted on the way, and wait on disk (kinds/spool); when all
are in, it is known which are repeated, and a second pass over the disk writes what stays. Nothing
is ever changed where it stands.
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import IO

from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import Conflict
from ollama_ft.core.files import write_atomic
from ollama_ft.kinds.containers import Part, Reading, parts_of
from ollama_ft.kinds.formats import BadRow, read_part
from ollama_ft.kinds.personal import Memory, redact
from ollama_ft.kinds.repairs import in_all_texts, repaired
from ollama_ft.kinds.report import BATCH, UNRENDERED, Against, Placed, personal_kinds
from ollama_ft.kinds.scan import DUPLICATE, REPLACED, Place, Scan, joined
from ollama_ft.kinds.spool import Spool

# What may be dropped or redacted, by the name that --keep takes.
RULES = ("duplicates", "near", "conflicts", "leaks", "long", "personal")
DROPPED, REDACTED, REPAIRED = "dropped", "redacted", "repaired"
LEAKS = "asked in a suite"
JOINED = "given the split or texts of the same row, which was dropped"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was done to one row, and why. Never with the text: it may be what was redacted."""

    at: str  # "faq.jsonl, row 7"
    action: str  # DROPPED, REDACTED or REPAIRED
    reason: str

    @property
    def line(self) -> str:
        """A canonical JSON line."""
        fields = {"action": self.action, "at": self.at, "reason": self.reason}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many rows came, stayed, and were changed for what reason."""

    came: int
    stayed: int
    dropped: dict[str, int] = field(default_factory=dict)
    redacted: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)


class Cleaning:
    """Rows being cleaned. Put all in, then take out what stays and what was done."""

    def __init__(self, keep: Iterable[str] = (), against: Against | None = None) -> None:
        self._keep = frozenset(keep)
        self._against = against or Against()
        self._scan = Scan()
        self._rows = Spool()  # canonical lines, repaired and redacted
        self._done = Spool()  # for each row its changes, as JSON
        self._brings = bytearray()  # whether a row has a split or texts that its twin may lack
        self._bad: list[Change] = []
        self._verdicts: dict[int, str] = {}  # row → why it goes: leaks and lengths
        self._batch: list[Conversation] = []

    def take_file(self, part: Part) -> None:
        """Put in all rows of a file. Raises BadInput if it cannot be read as a whole."""
        mended: list[str] = []

        def mend(row: Conversation) -> Conversation:
            better, mended[:] = repaired(row)
            return better

        def refuse(bad: BadRow) -> None:
            at = str(Place(file=part.called, number=bad.number))
            self._bad.append(Change(at=at, action=DROPPED, reason=bad.kind))

        for number, row in read_part(part, refuse, mend):
            self.take((Place(file=part.called, number=number), row), mended)

    def take_rows(self, rows: Iterable[Conversation]) -> None:
        """Put in rows that are frozen already; they are named by their place from 1."""
        for number, row in enumerate(rows, start=1):
            better, mended = repaired(row)
            self.take((Place(file="", number=number), better), mended)

    def take(self, placed: Placed, mended: Sequence[str] = ()) -> None:
        """Put in one row that is repaired already (by what, `mended` says)."""
        at, row = placed
        kinds: list[str] = []
        if "personal" not in self._keep:
            row, kinds = _redacted(row)
        self._scan.add(at, row)
        self._rows.append(row.line)
        self._brings.append(bool(row.split or row.accept or row.passages))
        self._done.append(json.dumps([list(mended), kinds]) if mended or kinds else "")
        self._batch.append(row)
        if len(self._batch) == BATCH:
            self._judge()

    def finish(self, write: Callable[[str], object], tell: Callable[[Change], object]) -> Counts:
        """Write the canonical line of each row that stays; tell of every change. In their order."""
        self._judge()
        twins, reasons = self._twins(), self._reasons()
        dropped: Counter[str] = Counter(change.reason for change in self._bad)
        redacted: Counter[str] = Counter()
        mended: Counter[str] = Counter()
        for change in self._bad:
            tell(change)
        for index, line in enumerate(self._rows):
            at = str(self._scan.place(index))
            whole = self._joined(index, twins[index]) if index in twins else line
            if reason := reasons(index, whole):
                dropped[reason.partition(":")[0]] += 1
                tell(Change(at=at, action=DROPPED, reason=reason))
                continue
            write(whole)
            repairs, kinds = json.loads(self._done[index] or "[[], []]")
            repairs += [JOINED] if whole != line else []
            mended.update(repairs)
            redacted.update(kinds)
            for name in repairs:
                tell(Change(at=at, action=REPAIRED, reason=name))
            for name in kinds:
                tell(Change(at=at, action=REDACTED, reason=name))
        came = len(self._scan) + len(self._bad)
        return Counts(
            came=came,
            stayed=came - dropped.total(),
            dropped=dict(dropped.most_common()),
            redacted=dict(redacted.most_common()),
            repaired=dict(mended.most_common()),
        )

    def _judge(self) -> None:
        """Look for leaks and lengths among the rows that are waiting."""
        start = len(self._rows) - len(self._batch)
        learned = [i for i, row in enumerate(self._batch) if row.split != "test"]
        rows = [self._batch[i] for i in learned]
        if self._against.asked and "leaks" not in self._keep:
            for leak in self._against.asked.leaks(rows):
                if leak.way != "meaning":  # a guess is told by check, never acted on
                    self._verdicts[start + learned[leak.row]] = f"{LEAKS}: {leak.way}"
        limit = self._against.limit
        if limit and "long" not in self._keep:
            for i, count in enumerate(limit.tokens(self._batch)):
                if count is not None and (count > limit.most or count == UNRENDERED):
                    self._verdicts.setdefault(start + i, f"too long: over {limit.most} tokens")
        self._batch = []

    def _twins(self) -> dict[int, list[int]]:
        """For each standing row the rows that are dropped for it, if one of them brings a thing."""
        gone = {DUPLICATE: "duplicates", REPLACED: "conflicts"}
        found: defaultdict[int, list[int]] = defaultdict(list)
        for index, state in enumerate(self._scan.state):
            if state in gone and gone[state] not in self._keep:
                found[self._scan.roots[index]].append(index)
        return {root: twins for root, twins in found.items() if any(self._brings[i] for i in twins)}

    def _joined(self, index: int, twins: Sequence[int]) -> str:
        """The row's line with what its twins bring, as freezing them all would join them."""
        lines = (self._rows[i] for i in sorted([index, *twins]))
        return reduce(joined, (Conversation.from_json(json.loads(line)) for line in lines)).line

    def _reasons(self) -> Callable[[int, str], str]:
        """Why a row goes, given its line; "" if it stays."""
        scan = self._scan
        near = array("q", range(len(scan)))
        heirs: dict[int, int] = {}  # a row that goes for itself → the first near one that stays
        for row, earlier in () if "near" in self._keep else scan.near():
            if earlier in self._verdicts and row not in self._verdicts:
                earlier = heirs.setdefault(earlier, row)
            near[row] = earlier

        def reason(index: int, line: str) -> str:
            state, twin = scan.state[index], scan.twin[index]
            verdict = self._verdicts.get(index, "")
            if verdict and not (verdict.startswith(LEAKS) and _is_test(line)):
                return verdict
            if state == DUPLICATE and "duplicates" not in self._keep:
                return f"the same row again: {scan.place(twin)}"
            if state == REPLACED and "conflicts" not in self._keep:
                return f"answered otherwise later: {scan.place(twin)}"
            if near[index] != index:
                return f"nearly the same row: {scan.place(near[index])}"
            return ""

        return reason


def clean_files(
    files: Sequence[Path],
    out: Path,
    reading: Reading | None = None,
    keep: Iterable[str] = (),
    against: Against | None = None,
) -> Counts:
    """Write what stays of the files to `out` as JSONL, and what was done to `changes_path(out)`.

    Raises Conflict if one of the two is there already, BadInput if a file cannot be read; then
    nothing is written.
    """
    told = changes_path(out)
    for path in (out, told):
        if path.exists():
            raise Conflict(
                f"{path} is there already; data is never changed in place.",
                mend=f"ollama-ft data clean … -o {out.stem}-2.jsonl",
            )
    cleaning = Cleaning(keep, against)
    for part in parts_of(files, reading):
        cleaning.take_file(part)
    counts: list[Counts] = []

    def write(changes: IO[bytes]) -> None:
        def write_rows(rows: IO[bytes]) -> None:
            counts.append(
                cleaning.finish(
                    lambda line: rows.write(f"{line}\n".encode()),
                    lambda change: changes.write(f"{change.line}\n".encode()),
                )
            )

        write_atomic(out, write_rows)

    write_atomic(told, write)
    return counts[0]


def _is_test(line: str) -> bool:
    # What is only asked in the test gives no suite's question away.
    return bool(json.loads(line).get("split") == "test")


def changes_path(out: Path) -> Path:
    """Where it is told what was done: "faq.clean.jsonl" → "faq.clean.changes.jsonl"."""
    return out.with_suffix(".changes.jsonl")


def clean_lines(
    rows: Iterable[Conversation], keep: Iterable[str] = (), against: Against | None = None
) -> tuple[list[str], list[Change], Counts]:
    """Clean frozen rows: the lines that stay, the changes, and their number. Pure."""
    cleaning = Cleaning(keep, against)
    cleaning.take_rows(rows)
    lines: list[str] = []
    changes: list[Change] = []
    counts = cleaning.finish(lines.append, changes.append)
    return lines, changes, counts


def _redacted(row: Conversation) -> tuple[Conversation, list[str]]:
    """The row with placeholders for personal data, the same in all its texts; what was found."""
    kinds = personal_kinds(row)
    if not kinds:
        return row, []
    memory = Memory()
    for text in (*(message.content for message in row.messages), *row.accept, *row.passages):
        memory.see(text)
    return in_all_texts(row, lambda text: redact(text, memory)), kinds
