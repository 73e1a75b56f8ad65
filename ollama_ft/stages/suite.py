"""Suites of a family: frozen by digest, asked of every version, banned from training for ever.

Reads:  suites, versions, evaluations
Writes: suites
"""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ollama_ft.core.catalog import append, every, newest
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput, Conflict, NotEnoughData, NotFound
from ollama_ft.core.files import artefact, digest_bytes
from ollama_ft.core.files import freeze as store
from ollama_ft.core.home import Home
from ollama_ft.core.judged_records import FrozenSuite
from ollama_ft.core.records import Evaluation, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.filters import fault
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.harvest.candidate import exchange_of
from ollama_ft.kinds.suites import TEST, Banned, Suite, ban, make_suite, read_folders


def freeze(db: Database, home: Home, suite: Suite) -> FrozenSuite:
    """Store a suite under its name; return its row, the newest one if it is the same.

    Raises NotEnoughData if it has no question.
    """
    if not suite.questions:
        raise NotEnoughData(
            f"The suite {suite.name} has no question, so nothing can be measured.",
            mend="add more rows; one in ten is kept for the test",
        )
    return _store(db, home, suite)


def _store(db: Database, home: Home, suite: Suite) -> FrozenSuite:
    found = newest(db, FrozenSuite, name=suite.name, family=suite.family)
    if found and (found.digest, found.kind) == (suite.digest, suite.kind):
        return found
    store(home.data("suites"), suite.content, ".jsonl")
    return append(
        db,
        FrozenSuite(
            name=suite.name,
            family=suite.family,
            kind=suite.kind,
            digest=suite.digest,
            questions=len(suite.questions),
            source=suite.source,
        ),
    )


def add(
    db: Database,
    home: Home,
    name: str,
    kind: str,
    family: str,
    rows: Sequence[Conversation],
    source: str,
) -> FrozenSuite:
    """Add questions to the suite `name`, or begin it; return its new row.

    Raises BadInput if the name is kept for the test questions, Conflict if the suite is of another
    kind.
    """
    if name == TEST:
        raise BadInput(
            f"The suite {TEST!r} is made of each dataset's own test questions.",
            mend="give the suite another name",
        )
    earlier = newest(db, FrozenSuite, name=name, family=family)
    if earlier and earlier.kind != kind:
        raise Conflict(
            f"The suite {name} is there already, and is of kind {earlier.kind}.",
            mend=f"--kind {earlier.kind}, or another name",
        )
    before = load(home, earlier).questions if earlier else ()
    source = f"{earlier.source}, {source}" if earlier and source not in earlier.source else source
    return freeze(db, home, make_suite(name, kind, family, [*before, *rows], source))


def gather(
    db: Database,
    home: Home,
    family: str,
    *,
    file: Path | None,
    test: bool,
    by_hand: Conversation | None,
    logged: Sequence[Conversation] | None = None,
) -> tuple[list[Conversation], str]:
    """The questions that one of four places gives, and the name of the place.

    Raises BadInput unless exactly one is given or the file is not fit, NotFound without data.
    """
    if (file is not None) + test + (by_hand is not None) + (logged is not None) != 1:
        raise BadInput(
            "A suite is made from one of four: a file, the test questions, the log, or by hand.",
            mend="ollama-ft suite add NAME --from FILE, --from-test, --from-logs, or -q … -a …",
        )
    if logged is not None:
        return list(logged), "log"
    if by_hand is not None:
        return [by_hand], "by hand"
    if file is not None:
        return [row for _, row in read_rows(file)], file.name
    found = newest(db, FrozenSuite, name=TEST, family=family)
    if found is None:
        raise NotFound(
            f"{family} has no test questions yet."
            if family
            else "Test questions are a family's own, and --for-all names none.",
            mend="ollama-ft suite add NAME --from FILE",
        )
    return list(load(home, found).questions), f"test questions {found.digest[7:19]}"


def by_hand(
    question: str, answer: str | None, accept: Sequence[str], never: Sequence[str]
) -> Conversation:
    """One question as it is given on the command line. Raises BadInput for what is not fit."""
    if answer is None and not accept:
        raise BadInput("The question has no answer.", mend='ollama-ft suite add … -q "…" -a "…"')
    turns = (
        Message(role="user", content=question),
        Message(role="assistant", content=answer or accept[0]),
    )
    row = Conversation(messages=turns, accept=tuple(accept), must_not_say=tuple(never))
    if what := fault(row):
        raise BadInput(f"The question {what}.", mend='ollama-ft suite add … -q "…" -a "…"')
    return row


def quoting(
    db: Database, home: Home, exchanges: Collection[str]
) -> dict[FrozenSuite, tuple[Conversation, ...]]:
    """The suites, by their newest row, that ask what one of these exchanges asked, and what of
    each is left without. A dataset's test questions go with the dataset, so they are not meant."""
    found = {}
    names = dict.fromkeys((row.name, row.family) for row in every(db, FrozenSuite))
    for name, family in names:
        row = newest(db, FrozenSuite, name=name, family=family)
        if row is None or name == TEST or not is_here(home, row):
            continue
        questions = load(home, row).questions
        left = tuple(one for one in questions if exchange_of(one) not in exchanges)
        if len(left) < len(questions):
            found[row] = left
    return found


def withdraw(db: Database, home: Home, exchanges: Collection[str]) -> None:
    """Ask no longer what these exchanges asked: the suites are frozen anew without it.

    One that is left without a question is not asked at all. What was asked stays banned.
    """
    for row, left in quoting(db, home, exchanges).items():
        suite = Suite(
            name=row.name, kind=row.kind, family=row.family, questions=left, source=row.source
        )
        _store(db, home, suite)


def find(db: Database, home: Home, family: str, name: str) -> Suite:
    """The suite of this name that the family is asked. Raises NotFound."""
    suites = {suite.name: suite for suite in known(db, home, family)}
    if name not in suites:
        raise NotFound(
            f"There is no suite {name!r}. Known: {', '.join(suites)}.", mend="ollama-ft suite list"
        )
    return suites[name]


def of_test_rows(rows: Sequence[Conversation], family: str) -> Suite:
    """The suite of a dataset's test questions. Raises NotEnoughData if there is none."""
    questions = [row for row in rows if row.split == "test"]
    if not questions:
        raise NotEnoughData(
            "The dataset has no test question, so nothing can be measured.",
            mend="add more rows; one in ten is kept for the test",
        )
    return make_suite(TEST, "domain", family, questions, "test split")


def load(home: Home, row: FrozenSuite) -> Suite:
    """The questions of a stored suite. Raises NotFound if its file is gone, Conflict if changed."""
    path = artefact(home.data("suites"), row.digest, ".jsonl")
    mend = f"ollama-ft suite add {row.name} --from FILE"
    if not path.is_file():
        raise NotFound(f"The file of the suite {row.name} is gone: {path}.", mend=mend)
    content = path.read_bytes()
    if digest_bytes(content) != row.digest:
        raise Conflict(f"{path} was changed after it was frozen.", mend=mend)
    return Suite(
        name=row.name,
        kind=row.kind,
        family=row.family,
        questions=_questions(content),
        source=row.source,
    )


def is_here(home: Home, row: FrozenSuite) -> bool:
    """Whether the file of a stored suite is there; who wants its words gone may delete it."""
    return artefact(home.data("suites"), row.digest, ".jsonl").is_file()


def asked(home: Home, evaluation: Evaluation) -> tuple[Conversation, ...]:
    """The questions of an evaluation as they were asked; none if they are not here, as those of an
    imported version."""
    path = artefact(home.data("suites"), evaluation.suite_digest, ".jsonl")
    content = path.read_bytes() if path.is_file() else b""
    return _questions(content) if digest_bytes(content) == evaluation.suite_digest else ()


def _questions(content: bytes) -> tuple[Conversation, ...]:
    return tuple(Conversation.from_json(json.loads(line)) for line in content.split(b"\n") if line)


def known(db: Database, home: Home, family: str) -> list[Suite]:
    """The suites that this family is asked: its own, and those for all. The test split is first.

    A stored suite wins over a file of the same name, a family's over one for all.
    """
    found = {suite.name: suite for suite in read_folders(home.texts("suites"))}
    for scope in ("", family):
        names = dict.fromkeys(row.name for row in every(db, FrozenSuite, family=scope))
        rows = [newest(db, FrozenSuite, name=name, family=scope) for name in names]
        found |= {row.name: load(home, row) for row in rows if row is not None}
    asking = [suite for suite in found.values() if suite.questions]
    return sorted(asking, key=lambda suite: (suite.name != TEST, suite.kind, suite.name))


def chosen(db: Database, home: Home, family: str, names: Sequence[str] | None) -> list[Suite]:
    """The suites that are asked beside the test split: all (None), or these names.

    Raises NotFound for a name that there is not.
    """
    if names is None:
        return [suite for suite in known(db, home, family) if suite.name != TEST]
    return [find(db, home, family, name) for name in names]


def banned(db: Database, home: Home, family: str) -> Banned:
    """What was ever a question of a suite that this family is asked, in any of its versions."""
    return ban(ever(db, home, family))


def ever(db: Database, home: Home, family: str) -> Iterator[Suite]:
    """Every suite that this family was ever asked, in all of their versions: those in the folders
    now, those that were frozen, and what a file said when its versions were asked.

    Raises NotFound if the file of one that is asked now is gone; older ones may be deleted.
    """
    yield from read_folders(home.texts("suites"))
    seen: set[str] = set()
    for scope in {"", family}:
        stored = every(db, FrozenSuite, family=scope)  # the newest first
        asked_now = {row.name: row.digest for row in reversed(stored)}.values()
        rows = {row.digest: row for row in stored if row.digest in asked_now or is_here(home, row)}
        yield from (load(home, row) for row in rows.values())
        seen |= rows.keys()
    for version in every(db, Version, family=family):
        for row in every(db, Evaluation, version=version.key):
            if row.suite_digest not in seen:
                seen.add(row.suite_digest)
                yield Suite(
                    name=row.suite or TEST, kind="", family=family, questions=asked(home, row)
                )
