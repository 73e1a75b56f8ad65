"""Two versions before the gate: the same suites are asked of both, and the verdict is a row."""

from collections.abc import Sequence

from ollama_ft.core.catalog import row
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import Note, Stage
from ollama_ft.core.judged_records import Verdict
from ollama_ft.core.records import Dataset, Evaluation, Version
from ollama_ft.core.refs import live as live_now
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.suites import Suite, is_spoken
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import evaluate as evaluation
from ollama_ft.stages import gate as gates
from ollama_ft.stages import publish as publishing
from ollama_ft.stages import suite as suites
from ollama_ft.stages.gate import Gate, Trial
from ollama_ft.workshop import Workshop


def hold(
    shop: Workshop, gate: Gate, version: Version, live: Version, test: Suite
) -> tuple[Verdict, Trial]:
    """Ask both versions the test questions and the gate's suites.

    Returns the verdict, and what both made of the test questions.

    What was answered once is not asked again. Raises RuntimeUnavailable and what judge raises.
    """
    asked = [test, *_others(shop, gate, version.family, test)]
    before = evaluate_all(shop, live, asked)
    after = evaluate_all(shop, version, asked)
    trials = [
        Trial(suite=suite, before=b, after=a)
        for suite, b, a in zip(asked, before, after, strict=True)
    ]
    return gates.judge(shop.db, shop.home, gate, version, live, trials), trials[0]


def evaluate_all(shop: Workshop, version: Version, asked: Sequence[Suite]) -> list[Evaluation]:
    """A version's evaluations of several suites, in their order."""
    open_ones = sum(len(evaluation.unasked(shop.db, version, suite)) for suite in asked)
    if open_ones:
        names = ", ".join(suite.name for suite in asked)
        shop.emit(Stage(name="evaluate", text=f"{version.tag}: {open_ones} questions ({names})"))
        publishing.bring(shop.db, shop.home, shop.client, version)
    else:
        shop.emit(Note(text=f"{version.tag} was asked all of these questions before"))
    return [
        evaluation.evaluate(shop.db, shop.home, shop.client, version, suite, shop.emit)
        for suite in asked
    ]


def own_questions(shop: Workshop, *versions: Version) -> Suite:
    """The test questions of the first of these versions whose data is here.

    Raises NotFound if that is none, and the family has no other data; NotEnoughData if there is no
    test question in it.
    """
    family = versions[0].family
    taught = (row(shop.db, Dataset, v.dataset) for v in versions if v.dataset)
    here = (d for d in taught if datasets.is_here(shop.home, d))
    dataset = next(here, None) or datasets.newest_here(shop.db, shop.home, family)
    if dataset is None:
        raise NotFound(
            f"{family} has no data yet, so there are no questions.",
            mend=f"ollama-ft train {family} --data faq.jsonl",
        )
    return suites.of_test_rows(datasets.load(shop.home, dataset), family)


def rival(db: Database, version: Version, v0: Version) -> Version:
    """What the version has to be better than: the live one, or what was live when it was made."""
    current = live_now(db, version.family)
    if current and current.version.key != version.key:
        return current.version
    return row(db, Version, version.parent) if current and version.parent else v0


def _others(shop: Workshop, gate: Gate, family: str, test: Suite) -> list[Suite]:
    names = gate.rules.suites
    chosen = suites.chosen(shop.db, shop.home, family, None if names == "all" else names)
    return [s for s in chosen if names != "all" or is_spoken(s, test.questions)]
