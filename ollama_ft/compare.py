"""Stored answers looked at again: more metrics of one version, or two versions side by side.

Everything is read from the catalog; a runtime is needed only for questions that a version was never
asked, and for a judge's verdicts that are not stored yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ollama_ft import loop
from ollama_ft.core.catalog import every, row
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import Note
from ollama_ft.core.home import Home
from ollama_ft.core.records import Base, Evaluation, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds import judging, ratings
from ollama_ft.kinds.metrics import Served, find
from ollama_ft.kinds.pairs import Counts, Pair, count, pair_up, unasked
from ollama_ft.runtime.client import user_message
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import evaluate as evaluation
from ollama_ft.stages import judge as judges
from ollama_ft.stages import measure as measuring
from ollama_ft.stages import publish as publishing
from ollama_ft.stages import rate as rating
from ollama_ft.stages import suite as suites
from ollama_ft.workshop import Workshop


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that is known of two versions on the questions that both were asked."""

    first: Version
    second: Version
    pairs: Sequence[Pair]
    judge: judging.Verdict | None  # None: no model has judged them
    judged: Sequence[judging.Judged]
    people: tuple[ratings.Human | None, ratings.Human | None]  # of this very pair
    preferred: tuple[int, int, int]  # raters' choices: the first, the second, neither
    agreement: dict[str, float] | None

    @property
    def counts(self) -> Counts:
        """Who won by the references."""
        return count(self.pairs)

    @property
    def blends(self) -> tuple[ratings.Blend | None, ratings.Blend | None]:
        """Automatic and human score of each version, where people have rated it."""
        counts = self.counts
        first, second = counts.first + counts.both_right, counts.second + counts.both_right
        return (
            _blend(first, counts.total, self.people[0]),
            _blend(second, counts.total, self.people[1]),
        )


def measure(
    shop: Workshop, version: Version, names: Sequence[str], suite_names: Sequence[str] = ()
) -> list[tuple[Evaluation, dict[str, float | None]]]:
    """Evaluate a version on its test questions, or the named suites, in that order; take the named
    metrics of its answers.

    Raises BadInput for a name that is no metric, before anything is asked; NotFound for a suite
    that there is not.
    """
    metrics = find(names)
    return [
        (
            evaluated,
            measuring.measure(
                shop.db,
                shop.home,
                evaluated,
                metrics,
                _served(shop, version, evaluated) if metrics else (),
                lambda messages: shop.client.render(version.tag, messages),
            ),
        )
        for evaluated in loop.evaluate(shop, version, suite_names)
    ]


def lacking(db: Database, home: Home, first: Version, second: Version) -> list[Version]:
    """Which of the two were not asked all questions of their families' newest data."""
    questions = _questions(db, home, first, second)
    return [v for v in (first, second) if unasked(questions, _answers(db, home, v))]


def catch_up(shop: Workshop, first: Version, second: Version) -> None:
    """Ask each of the two what it was not asked yet; what was answered is not asked again.

    Raises NotFound if their families have no data.
    """
    questions = _questions(shop.db, shop.home, first, second)
    suite = suites.of_test_rows(questions, first.family)
    for version in lacking(shop.db, shop.home, first, second):
        publishing.bring(shop.db, shop.home, shop.client, version)
        evaluation.evaluate(shop.db, shop.home, shop.client, version, suite, shop.emit)


def pairs(db: Database, home: Home, first: Version, second: Version) -> list[Pair]:
    """The questions that both were asked. Raises NotFound if there is none."""
    found = pair_up(_answers(db, home, first), _answers(db, home, second))
    if not found:
        raise NotFound(
            f"{first.tag} and {second.tag} were never asked the same question.",
            mend=f"ollama-ft eval {first.tag}, then ollama-ft eval {second.tag}",
        )
    return found


def compare(db: Database, home: Home, first: Version, second: Version) -> Comparison:
    """Compare two versions by what is stored of them. Raises NotFound if nothing is."""
    both = pairs(db, home, first, second)
    judge, judged = judges.judged(db, first, second, both)
    rows = rating.ratings(db, first, second)
    return Comparison(
        first=first,
        second=second,
        pairs=both,
        judge=judging.add_up(judge, judged) if judged else None,
        judged=judged,
        people=(
            ratings.summary([r for r in rows if r.version == first.key]),
            ratings.summary([r for r in rows if r.version == second.key]),
        ),
        preferred=ratings.preferred(rows, first.key, second.key),
        agreement=ratings.agreement(rows),
    )


def ask_judge(shop: Workshop, name: str, first: Version, second: Version) -> None:
    """Let the model `name` judge every pair that it has not judged yet."""
    both = pairs(shop.db, shop.home, first, second)
    judges.judge(shop.db, shop.client, name, first, second, both, shop.emit)
    blob = shop.client.show(name).base_blob
    if blob in {row(shop.db, Base, version.base).blob_digest for version in (first, second)}:
        # Panickssery et al. 2024 (arXiv 2404.13076): models favour what they would say themselves.
        shop.emit(Note(text=f"{name} is the base that it judges: a larger, other model is fairer"))


def _served(shop: Workshop, version: Version, evaluated: Evaluation) -> list[Served]:
    """The answers of an evaluation with their questions, as metrics take them."""
    known = {row.digest: row for row in _questions(shop.db, shop.home, version, version)}
    known |= {row.digest: row for row in suites.asked(shop.home, evaluated)}
    return [
        Served(
            question=known.get(one.question_digest) or _question(one.question, one.expected),
            answer=one.answer,
            stopped=one.stopped,
            seconds=one.times.get("seconds"),
            writing=one.times.get("writing"),
            tokens=int(one.times["tokens"]) if "tokens" in one.times else None,
        )
        for one in evaluation.answers(shop.home, evaluated)
    ]


def _question(question: str, expected: str) -> Conversation:
    reference = Message(role="assistant", content=expected)
    return Conversation(messages=(*user_message(question), reference))


def _blend(right: int, total: int, human: ratings.Human | None) -> ratings.Blend | None:
    if human is None:
        return None
    return ratings.Blend(automatic=100 * right / total, human=human.score)


def _questions(db: Database, home: Home, first: Version, second: Version) -> list[Conversation]:
    found: dict[str, Conversation] = {}
    for family in dict.fromkeys((first.family, second.family)):
        if dataset := datasets.newest_here(db, home, family):
            rows = datasets.load(home, dataset)
            found |= {row.digest: row for row in rows if row.split == "test"}
    return list(found.values())


def _answers(db: Database, home: Home, version: Version) -> list[evaluation.Answered]:
    rows = reversed(every(db, Evaluation, version=version.key, suite=""))
    return [answered for found in rows for answered in evaluation.answers(home, found)]
