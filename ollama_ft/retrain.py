"""From the log to the next version: harvest, join to what was taught, and train as `train` does.

    plan        choose from the log; nothing is written
    widen       ask the same in other words, by a model
    carry_out   freeze the choice and make the version
    forget      delete exchanges, mark what learned from them, ask it no longer

A dataset's row that came from the log names its exchange. Each plan chooses from the whole log
anew, so that a row whose exchange was deleted, or rated down since, is not trained on again; rows
of files stay.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ollama_ft import onward, tidy
from ollama_ft.core.catalog import every, newest, row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import Conflict, NotEnoughData
from ollama_ft.core.events import Stage
from ollama_ft.core.logsearch import moment
from ollama_ft.core.plugins import collect
from ollama_ft.core.records import Dataset, Family, Version
from ollama_ft.core.refs import BARE_NUMBER, live, resolve
from ollama_ft.kinds.context import IN_CONTEXT
from ollama_ft.kinds.harvest.candidate import CORRECTED, Candidate, Settings, exchange_of
from ollama_ft.kinds.harvest.fitness import not_down
from ollama_ft.kinds.harvest.grounded import support
from ollama_ft.kinds.harvest.sift import Sifted, sift
from ollama_ft.kinds.more_rows import is_made
from ollama_ft.kinds.suites import TEST
from ollama_ft.loop import Lesson, Outcome, make
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import forget as forgetting
from ollama_ft.stages import harvest as harvesting
from ollama_ft.stages import suite as suites
from ollama_ft.workshop import Workshop

if TYPE_CHECKING:
    from ollama_ft.core.home import Home
    from ollama_ft.core.sqlite import Database

LEAST_NEW = 10  # new rows that are worth a training
PHRASINGS = 3  # ways in which an answer was asked for, from which on one may be kept to test


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of a retraining."""

    since: str = ""  # a version or a time: what was asked and rated before it must be learned
    min_rows: int = LEAST_NEW
    strategy: str = "scratch"  # or "continue": go on from the live version's adapter
    keep_context: bool = False  # learn to read passages, instead of to answer without them
    paraphrases: int = 0  # other ways to ask each question, by `model`
    model: str | None = None
    settings: Settings = field(default_factory=Settings)

    @property
    def kept(self) -> dict[str, object]:
        """What a harvest's row keeps of it."""
        names = ("since", "strategy", "keep_context", "paraphrases", "model")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would be trained on, and how it came about. Nothing is written yet."""

    family: Family
    exchanges: int  # that the log has of this family
    candidates: int  # of them, what was looked at
    passed_over: int  # unrated ones that were not, since newer ones are enough
    sifted: Sifted
    frozen: datasets.Frozen
    fresh: int  # rows that the dataset before does not have, or not as this lesson
    gone: int  # exchanges it learned from that are deleted, or whose answer was rated down since
    min_rows: int
    done: Version | None  # the version that was made of these very rows

    @property
    def few(self) -> str:
        """What is missing, and how much, before a training is worth its time; "" if nothing is.

        Where rows went away nothing new is waited for.
        """
        if not self.gone and self.fresh < self.min_rows:
            return (
                f"The log has {self.fresh} new rows for {self.family.name}; {self.min_rows} are "
                f"the least that is trained on, {self.min_rows - self.fresh} are missing."
            )
        train = self.frozen.count("train")
        if train < datasets.LEAST:
            return (
                f"There are {train} rows to train on; {datasets.LEAST} are the least, "
                f"{datasets.LEAST - train} are missing."
            )
        return ""

    @property
    def missing(self) -> int:
        """How many rows are missing before a training is worth its time."""
        new = 0 if self.gone else self.min_rows - self.fresh
        return max(0, new, datasets.LEAST - self.frozen.count("train"))

    @property
    def nothing_new(self) -> bool:
        """Whether a version knows it all already."""
        return self.done is not None or not (self.fresh or self.gone)


def plan(db: "Database", home: "Home", log: "Database", family: Family, wish: Wish) -> Plan:
    """Choose from the log what the next version of a family learns; nothing is written.

    Raises NotFound for a version that is not, BadInput for what is no time.
    """
    onto = _onto(db, home, family)
    before = datasets.load(home, onto) if onto else []
    own = _of_files(db, home, onto)
    known = {exchange_of(row) for row in before} - {""}
    seen = harvesting.read(log, family.name, _since(db, family, wish.since), known)
    settings = _held_against(db, home, family, before, replace(wish.settings, taught=own))
    rules = {name: loaded.thing for name, loaded in collect("harvest_rules").items()}
    sifted = sift(seen.candidates, rules, settings)
    chosen = {one.uid: taught_as(one, settings, wish.keep_context) for one in sifted.kept}
    earlier = [*own.values(), *_again(before, chosen)]
    frozen = _join(list(chosen.values()), earlier, own.values())
    frozen = replace(frozen, parent=onto.key if onto else None, sources={"log": len(sifted.kept)})
    lessons = {_lesson(row) for row in (*own.values(), *_taught(db, home, onto))}
    bad = {left.candidate.uid for left in not_down(seen.candidates, settings).left}
    lost = known - (harvesting.present(log, known) - bad)
    return Plan(
        family=family,
        exchanges=seen.exchanges,
        candidates=len(seen.candidates),
        passed_over=seen.passed_over,
        sifted=sifted,
        frozen=frozen,
        fresh=sum(_lesson(row) not in lessons for row in frozen.rows),
        gone=len(lost),
        min_rows=wish.min_rows,
        done=_made_of(db, family, frozen.digest),
    )


def widen(shop: Workshop, planned: Plan, count: int, model: str) -> Plan:
    """The plan with at most `count` other ways to ask each row from the log, written by `model`.

    They are only learned from; what a suite asks is left out. Raises what the runtime raises.
    """
    logged = [row for row in planned.frozen.rows if exchange_of(row)]
    made, _ = tidy.paraphrase(shop, logged, count, model)
    there = {row.prompt_key for row in planned.frozen.rows}
    fresh = [row for row in made if row.prompt_key not in there]
    joined = datasets.build(fresh, planned.frozen.rows)
    banned = suites.banned(shop.db, shop.home, planned.family.name)
    rows = datasets.without(joined, banned).rows
    return replace(planned, frozen=replace(planned.frozen, rows=rows))


def carry_out(shop: Workshop, planned: Plan, lesson: Lesson, wish: Wish) -> Outcome:
    """Freeze what was planned and make a version of it, as `train` does.

    The wish is kept with the harvest, beside how many rows each rule was given and left.

    Raises NotEnoughData if too little is new, and all that `loop.make` raises.
    """
    if planned.few:
        raise NotEnoughData(planned.few, mend="ollama-ft review, --min-rows, or train --data")
    text = f"{planned.fresh} new rows from the log, {planned.gone} fewer of those before"
    shop.emit(Stage(name="harvest", text=text))
    dataset = datasets.freeze(shop.db, shop.home, planned.family.name, planned.frozen)
    rules = {step.rule: [step.came, step.stayed] for step in planned.sifted.steps}
    harvesting.record(shop.db, shop.home, dataset, planned.sifted, wish.kept | {"rules": rules})
    return make(shop, planned.family, planned.frozen, lesson)


def warm(db: "Database", planned: Plan, lesson: Lesson) -> Lesson:
    """The lesson begun from the live version's adapter instead of from nothing.

    Raises Conflict if it knows what is to be forgotten, and all that `onward.warm` raises.
    """
    if planned.gone:
        raise Conflict(
            f"{planned.gone} exchanges that were learned are deleted or rated down since; who goes "
            "on from an adapter that learned them does not forget them.",
            mend=f"ollama-ft retrain {planned.family.name} --from-logs --strategy scratch",
        )
    return onward.warm(db, planned.family, lesson)


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """What is, or was, forgotten, and who had learned it."""

    found: Sequence[forgetting.Found]
    versions: Sequence[Version]  # that learned from any of it, the oldest first
    live: Sequence[Version]  # those of them that are live
    suites: Mapping[str, int]  # the names of those that ask it, and how many questions of it
    deleted: int


def forget(
    db: "Database",
    home: "Home",
    log: "Database",
    found: Sequence[forgetting.Found],
    *,
    dry_run: bool = False,
) -> Forgetting:
    """Delete exchanges, mark the versions that learned from them, take what was asked of them out
    of the suites; `dry_run` only tells."""
    taught = forgetting.learned(db, found, _exchanges(db, home))
    versions = {v.key: v for some in taught.values() for v in some}
    families = {v.family for v in versions.values()}
    lives = [current.version for name in families if (current := live(db, name))]
    uids = {one.uid for one in found}
    asking = {
        suite.name: suite.questions - len(left)
        for suite, left in suites.quoting(db, home, uids).items()
    }
    deleted = 0
    if not dry_run:
        suites.withdraw(db, home, uids)
        deleted = forgetting.carry_out(db, log, found, taught)
    return Forgetting(
        found=found,
        versions=[versions[key] for key in sorted(versions)],
        live=[version for version in lives if version.key in versions],
        suites=asking,
        deleted=deleted,
    )


def _onto(db: "Database", home: "Home", family: Family) -> Dataset | None:
    """What the live version was taught, if its rows are here; else the family's newest data."""
    current = live(db, family.name)
    if current and current.version.dataset:
        taught = row(db, Dataset, current.version.dataset)
        if datasets.is_here(home, taught):
            return taught
    return datasets.newest_here(db, home, family.name)


def _held_against(
    db: "Database",
    home: "Home",
    family: Family,
    before: Sequence[Conversation],
    settings: Settings,
) -> Settings:
    """The settings with all that the family is or was asked. A test row is asked by its dataset
    alone, so its exchange may be chosen again; one that a suite asks may not."""
    tests = [row for row in before if row.split == "test"]
    others: list[Conversation] = []
    for suite in suites.ever(db, home, family.name):
        (tests if suite.name == TEST else others).extend(suite.questions)
    tested = {exchange_of(row) for row in tests} - {exchange_of(row) for row in others}
    return replace(settings, asked=[*tests, *others], tested=tested)


def _taught(db: "Database", home: "Home", onto: Dataset | None) -> list[Conversation]:
    """The rows that a version was made of: those of `onto`, or of the newest one before it.

    A training that failed leaves a dataset that nobody has learned.
    """
    at = onto
    while at is not None and newest(db, Version, dataset=at.key) is None:
        at = row(db, Dataset, at.parent) if at.parent else None
    return datasets.load(home, at) if at and datasets.is_here(home, at) else []


def _lesson(row: Conversation) -> tuple[bytes, bytes, tuple[str, ...], bool]:
    return row.prompt_key, row.answer_key, row.passages, IN_CONTEXT in row.tags


def _of_files(db: "Database", home: "Home", onto: Dataset | None) -> dict[bytes, Conversation]:
    """The rows that came from files, by prompt_key, corrected ones with what the file said.

    A dataset may have a correction in the place of a file's row; the row is in one before it.
    """
    found: dict[bytes, Conversation] = {}
    at = onto
    while at is not None and datasets.is_here(home, at):
        for one in datasets.load(home, at):
            if not exchange_of(one):
                found.setdefault(one.prompt_key, one)
        at = row(db, Dataset, at.parent) if at.parent else None
    return found


def _since(db: "Database", family: Family, since: str) -> str:
    """The time that is meant: of a version, when its rows were chosen, not when it was ready."""
    if not since:
        return ""
    number = since.removeprefix(f"{family.name}:")
    if BARE_NUMBER.fullmatch(number):
        version = resolve(db, f"{family.name}:{number}")
        return row(db, Dataset, version.dataset).at if version.dataset else version.at
    return moment(since)


def taught_as(one: Candidate, settings: Settings, keep_context: bool) -> Conversation:
    """The row of a dataset that a chosen exchange becomes, with its passages where they help.

    What somebody corrected was answered from passages that misled, so it is learned without any.
    With `keep_context` passages stay in the prompt where they hold the answer.
    """
    if keep_context:
        held = support(one.row.answer, "\n".join(one.passages)) >= settings.support
        return replace(one.row, passages=one.passages, tags=(IN_CONTEXT,)) if held else one.row
    return one.row if one.tier == CORRECTED else replace(one.row, passages=one.passages)


def _again(
    before: Sequence[Conversation], chosen: Mapping[str, Conversation]
) -> Iterator[Conversation]:
    """The rows of exchanges that were learned before and are chosen again, in their splits."""
    for old in before:
        new = chosen.get(exchange_of(old))
        if new is None:
            continue
        if not is_made(old):
            yield replace(new, split=old.split)
        elif old.answer_key == new.answer_key:
            yield old


def _join(
    kept: Sequence[Conversation], before: Sequence[Conversation], own: Collection[Conversation]
) -> datasets.Frozen:
    """The rows chosen from the log on top of those that stand.

    An answer that few ways of asking led to is taught, not asked: somebody who corrected it once
    expects it to be known.
    """
    ways: dict[bytes, int] = {}
    for taught in (*own, *kept):
        ways[taught.answer_key] = ways.get(taught.answer_key, 0) + 1
    settled = {old.prompt_key for old in before}
    rows = [
        replace(one, split="train")
        if ways[one.answer_key] < PHRASINGS and one.prompt_key not in settled
        else one
        for one in kept
    ]
    return datasets.build(rows, before)


def _made_of(db: "Database", family: Family, digest: str) -> Version | None:
    frozen = every(db, Dataset, family=family.name, digest=digest)
    made = (newest(db, Version, family=family.name, dataset=dataset.key) for dataset in frozen)
    return next((version for version in made if version), None)


def _exchanges(db: "Database", home: "Home") -> dict[int, frozenset[str]]:
    """The exchanges that each dataset of these has rows of, by the dataset's id."""
    found = {}
    for dataset in every(db, Dataset):
        if datasets.is_here(home, dataset):
            rows: Collection[Conversation] = datasets.load(home, dataset)
            found[dataset.key] = frozenset(exchange_of(one) for one in rows) - {""}
    return found
