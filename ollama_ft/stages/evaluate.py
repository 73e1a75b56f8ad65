"""One version's answers to frozen questions, asked where it is served, and scored.

Reads:  versions, datasets, runs
Writes: evaluations
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import NotEnoughData
from ollama_ft.core.events import Count, Emit
from ollama_ft.core.files import artefact, digest_bytes, freeze
from ollama_ft.core.home import Home
from ollama_ft.core.records import Evaluation, Run, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.metrics import score, stops, timings

if TYPE_CHECKING:
    from ollama_ft.runtime.answers import Answer
    from ollama_ft.runtime.client import Ollama

GREEDY = {"temperature": 0, "seed": 0, "num_ctx": 4096}
ROOM = 16  # tokens of an answer's budget beyond twice the longest reference


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Frozen questions with their references."""

    digest: str
    questions: tuple[Conversation, ...]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question, what was expected and what was served."""

    question_digest: str
    question: str
    expected: str
    answer: str
    right: bool
    stopped: bool
    scores: dict[str, float]
    times: dict[str, float] = field(default_factory=dict)  # see kinds' `timings`


def test_suite(rows: Sequence[Conversation]) -> Suite:
    """The suite of a dataset's test split.

    Raises NotEnoughData if there is no test row.
    """
    questions = tuple(sorted((r for r in rows if r.split == "test"), key=lambda r: r.digest))
    if not questions:
        raise NotEnoughData(
            "The dataset has no test question, so nothing can be measured.",
            mend="add more rows; one in ten is kept for the test",
        )
    return Suite(
        digest=digest_bytes("\n".join(row.digest for row in questions).encode()),
        questions=questions,
    )


def evaluate(
    db: Database, home: Home, client: "Ollama", version: Version, suite: Suite, emit: Emit
) -> Evaluation:
    """Ask the version every question it has not been asked yet; return the row.

    Greedy, with explicit options, several questions at a time, all of one version together.
    An answer that does not stop by itself is wrong, whatever it says.
    """
    if found := newest(db, Evaluation, version=version.key, suite_digest=suite.digest):
        return found
    known = _earlier(db, home, version)
    asked = [q for q in suite.questions if q.digest not in known]
    answered = known | {a.question_digest: a for a in _ask(client, version, asked, emit)}
    results = [answered[q.digest] for q in suite.questions]
    content = json.dumps([asdict(r) for r in results], ensure_ascii=False, indent=1)
    digest, _ = freeze(home.data("evaluations"), content.encode(), ".json")
    return append(
        db,
        Evaluation(
            version=version.key,
            suite_digest=suite.digest,
            questions=len(results),
            right=sum(r.right for r in results),
            perplexity=_perplexity(db, version),
            digest=digest,
            metrics_json=json.dumps(_means(results), sort_keys=True),
        ),
    )


def answers(home: Home, evaluation: Evaluation) -> list[Answered]:
    """The questions of an evaluation with the answers that were served."""
    path = artefact(home.data("evaluations"), evaluation.digest, ".json")
    return _load(path)


def _load(path: Path) -> list[Answered]:
    return [Answered(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _earlier(db: Database, home: Home, version: Version) -> dict[str, Answered]:
    # A version is immutable and asked greedily: what it answered once, it answers again.
    return {
        answered.question_digest: answered
        for evaluation in every(db, Evaluation, version=version.key)
        for answered in answers(home, evaluation)
    }


def _ask(
    client: "Ollama", version: Version, questions: Sequence[Conversation], emit: Emit
) -> list[Answered]:
    if not questions:
        return []
    done = 0

    def count(place: int, answer: object) -> None:
        nonlocal done
        done += 1
        emit(Count(name=version.tag, done=done, total=len(questions), unit="questions"))

    served = client.ask_many(
        version.tag,
        [q.prompt for q in questions],
        options=GREEDY | {"num_predict": max(_budget(q.answer) for q in questions)},
        think=False,
        on_answer=count,
    )
    return [_answered(question, answer) for question, answer in zip(questions, served, strict=True)]


def _budget(reference: str) -> int:
    # No tokenizer is at hand here: a token is about four ASCII letters, and at most one byte of
    # anything else. Twice that is room for an answer in other words; beyond it the model rambles.
    plain = sum(character.isascii() for character in reference)
    return 2 * (plain // 4 + len(reference.encode()) - plain) + ROOM


def _answered(question: Conversation, answer: "Answer") -> Answered:
    stopped = answer.done and stops(answer.done_reason)
    scores = score(answer.text, question)
    return Answered(
        question_digest=question.digest,
        question=question.question,
        expected=question.answer,
        answer=answer.text,
        right=stopped and scores["contains"] >= 1.0,
        stopped=stopped,
        scores=scores,
        times=timings(answer),
    )


def _means(results: Sequence[Answered]) -> dict[str, float]:
    names = sorted({name for result in results for name in result.scores})
    means = {name: sum(r.scores.get(name, 0.0) for r in results) / len(results) for name in names}
    means["stops"] = sum(r.stopped for r in results) / len(results)
    return {name: round(value, 4) for name, value in means.items()}


def _perplexity(db: Database, version: Version) -> float | None:
    # Measured when the adapter was trained: on the base without it, and with it.
    if version.run is not None:
        metrics = json.loads(row(db, Run, version.run).metrics_json)
        return float(metrics["general_perplexity"]["tuned"])
    run = newest(db, Run, family=version.family, base=version.base)
    return float(json.loads(run.metrics_json)["general_perplexity"]["base"]) if run else None
