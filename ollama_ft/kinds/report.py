"""What is in a dataset: the figures behind `data check`."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low

from ollama_ft.core.conversation import SPLITS, Conversation
from ollama_ft.kinds.containers import Reading, parts_of
from ollama_ft.kinds.filters import script
from ollama_ft.kinds.formats import find_format, read_part
from ollama_ft.kinds.languages import Sample
from ollama_ft.kinds.leaks import Asked
from ollama_ft.kinds.personal import find as find_personal
from ollama_ft.kinds.scan import DUPLICATE, REPLACED, Place, Scan

SHOWN = 20  # examples that are named of each find; the rest is counted
UNRENDERED = -1  # instead of a length: the template does not render the answer as it stands
BATCH = 2_000  # rows whose lengths and leaks are looked for together

Placed = tuple[Place, Conversation]
Lengthy = Callable[[Sequence[Conversation]], Sequence[int | None]]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How long a row may be, and who counts: `tokens` of rows, None where it is surely less."""

    most: int
    tokens: Lengthy  # UNRENDERED for an answer that the template does not render as it stands


@dataclass(frozen=True, kw_only=True)
class Against:
    """What rows are held against beside one another. Empty: against nothing."""

    asked: Asked | None = None  # the questions of suites
    limit: Limit | None = None


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long texts are, in characters."""

    median: int
    longest: int
    longest_at: str  # "faq.jsonl, row 7"


@dataclass(frozen=True, kw_only=True)
class Found:
    """How many rows are of one kind, and the first SHOWN of them in words."""

    rows: int = 0
    examples: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Counts over the rows that are fit, and what is wrong with the others."""

    formats: dict[str, str]  # file name -> format
    rows: int  # fit to learn from, duplicates included
    bad: Found  # unfit rows, by what is wrong with them
    duplicates: Found  # the same question and answer as an earlier row
    conflicts: Found  # the same question, another answer
    near: Found  # nearly the same question, the same answer
    similar: Found  # nearly the same question, another answer: two things, or one told in two ways
    personal: Found  # by kind of personal data
    leaks: Found | None  # questions of suites, by way; None: no suite was given
    too_long: Found | None  # after the real template, or not rendered by it; None: none given
    across: int  # questions that stand in more than one split
    splits: dict[str, int]  # rows in each split once duplicates and conflicts are joined
    roles: dict[str, int]  # turns of each role
    dropped_turns: int  # of tools
    multi_turn: int  # rows with more than one question
    questions: Lengths
    answers: Lengths
    scripts: dict[str, int]  # rows by the script of their question and answer
    languages: dict[str, float]  # share of rows, by a sample; see kinds/languages
    sources: dict[str, int]  # rows by the source that they name, else by file


def check(
    files: Sequence[Path], reading: Reading | None = None, against: Against | None = None
) -> Report:
    """Read all rows of `files` and report on them. Nothing is written.

    Bad rows are reported, not raised. Memory grows by some hundred bytes a row, not by its text.

    Raises BadInput if a file as a whole cannot be read.
    """
    bad = _Finds()
    read = parts_of(files, reading)
    formats = {part.called: find_format(part) for part in read}

    def rows() -> Iterator[Placed]:
        for part in read:
            for number, row in read_part(part, lambda fault: bad.add(str(fault), fault.kind)):
                yield Place(file=part.called, number=number), row

    return _report(rows(), formats, bad, against)


def summarise(rows: Iterable[Conversation], against: Against | None = None) -> Report:
    """Report on rows that are frozen already; they are named by their place from 1."""
    placed = ((Place(file="", number=n), row) for n, row in enumerate(rows, start=1))
    return _report(placed, {}, _Finds(), against)


def personal_kinds(row: Conversation) -> list[str]:
    """The kinds of personal data in a row's turns, accepted texts and passages, sorted."""
    texts = (*(message.content for message in row.messages), *row.accept, *row.passages)
    return sorted({span.kind for text in texts for span in find_personal(text)})


class _Finds:
    """Rows of one kind as they are found."""

    def __init__(self) -> None:
        self.rows = 0
        self.examples: list[str] = []
        self.kinds: Counter[str] = Counter()

    def add(self, example: str, *kinds: str) -> None:
        """Count one row, which is of these kinds."""
        self.rows += 1
        self.kinds.update(kinds)
        if len(self.examples) < SHOWN:
            self.examples.append(example)

    def found(self) -> Found:
        """What was found."""
        return Found(
            rows=self.rows, examples=tuple(self.examples), kinds=dict(self.kinds.most_common())
        )


class _Tally:
    """What is counted while the rows go by."""

    def __init__(self, against: Against) -> None:
        self.against = against
        self.scan = Scan()
        self.roles: Counter[str] = Counter()
        self.scripts: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.languages = Sample()
        self.questions = array("q")
        self.answers = array("q")
        self.personal, self.leaks, self.long = _Finds(), _Finds(), _Finds()
        self.dropped = self.multi_turn = 0
        self._batch: list[Placed] = []

    def add(self, at: Place, row: Conversation) -> None:
        """Count one row."""
        self.scan.add(at, row)
        roles = [message.role for message in row.messages]
        self.roles.update(roles)
        self.multi_turn += roles.count("user") > 1
        self.dropped += row.dropped
        text = f"{row.question}\n{row.answer}"
        self.scripts[script(text)] += 1
        self.languages.see(text)
        self.sources[row.source or at.file or "-"] += 1
        self.questions.append(len(row.question))
        self.answers.append(len(row.answer))
        if kinds := personal_kinds(row):
            self.personal.add(f"{at}: {', '.join(kinds)}", *kinds)
        self._batch.append((at, row))
        if len(self._batch) == BATCH:
            self.flush()

    def flush(self) -> None:
        """Look at the rows that are waiting together."""
        rows = [row for _, row in self._batch]
        if asked := self.against.asked:
            learned = [placed for placed in self._batch if placed[1].split != "test"]
            for leak in asked.leaks([row for _, row in learned]):
                question = asked.questions[leak.question].question
                self.leaks.add(f"{learned[leak.row][0]}: {_cut(question)}", leak.way)
        if limit := self.against.limit:
            for (at, _), count in zip(self._batch, limit.tokens(rows), strict=True):
                if count == UNRENDERED:
                    self.long.add(f"{at}: spaces at the ends, or <think>", "not as it stands")
                elif count is not None and count > limit.most:
                    self.long.add(f"{at}: {count} tokens", "tokens")
        self._batch = []


def _report(
    rows: Iterable[Placed], formats: dict[str, str], bad: _Finds, against: Against | None
) -> Report:
    tally = _Tally(against or Against())
    for at, row in rows:
        tally.add(at, row)
    tally.flush()
    scan = tally.scan
    splits = scan.splits()
    counts = Counter(splits)
    return Report(
        formats=formats,
        rows=len(scan),
        bad=bad.found(),
        duplicates=_joined(scan, DUPLICATE, "repeats"),
        conflicts=_joined(scan, REPLACED, "is answered otherwise in"),
        near=_pairs(scan, scan.near(), "is nearly"),
        similar=_pairs(scan, scan.similar(), "asks nearly the same, answered otherwise, as"),
        personal=tally.personal.found(),
        leaks=tally.leaks.found() if tally.against.asked else None,
        too_long=tally.long.found() if tally.against.limit else None,
        across=scan.across(splits),
        splits={name: counts[name] for name in SPLITS},
        roles=dict(tally.roles),
        dropped_turns=tally.dropped,
        multi_turn=tally.multi_turn,
        questions=_lengths(scan, tally.questions),
        answers=_lengths(scan, tally.answers),
        scripts=dict(tally.scripts.most_common()),
        languages=tally.languages.shares(),
        sources=dict(tally.sources.most_common()),
    )


def _joined(scan: Scan, state: int, verb: str) -> Found:
    return _pairs(scan, ((i, scan.twin[i]) for i in scan.with_state(state)), verb)


def _pairs(scan: Scan, pairs: Iterable[tuple[int, int]], verb: str) -> Found:
    finds = _Finds()
    for one, other in pairs:
        if finds.rows < SHOWN:
            text = f"{scan.place(one)} {verb} {scan.place(other)}: {_cut(scan.asked[one])}"
            finds.add(text)
        else:
            finds.rows += 1
    return finds.found()


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def _lengths(scan: Scan, lengths: "array[int]") -> Lengths:
    if not lengths:
        return Lengths(median=0, longest=0, longest_at="")
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    at = str(scan.place(longest))
    return Lengths(median=median_low(lengths), longest=lengths[longest], longest_at=at)
