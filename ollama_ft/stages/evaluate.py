"""One version's answers to frozen questions, asked where it is served, and scored.

Reads:  versions, replies, runs
Writes: replies, evaluations

Each answer is a row as soon as it comes, so a killed evaluation goes on where it was, and no
version is ever asked the same twice: not in another suite, and not in another family either.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.events import Count, Emit
from ollama_ft.core.files import artefact, digest_bytes, freeze
from ollama_ft.core.home import Home
from ollama_ft.core.judged_records import Reply
from ollama_ft.core.records import Evaluation, Run, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.context import asked
from ollama_ft.kinds.metrics import score, stops, timings
from ollama_ft.kinds.suites import TEST, Suite, is_right, only_forbids

if TYPE_CHECKING:
    from ollama_ft.runtime.answers import Answer
    from ollama_ft.runtime.client import Ollama

GREEDY = {"temperature": 0, "seed": 0, "num_ctx": 4096}
ROOM = 16  # tokens of an answer's budget beyond twice the reference
STEP = 32  # tokens; budgets are rounded up to multiples, so that few differ
LEAST = 64  # tokens that every answer may have
# Tokens for an answer of which only is known what it must not say. What is said at all is said
# early: of 120 answers of SmolLM2-135M and a version of it, 96 tokens told 119 as 192 did.
FREE = 96

Key = tuple[str, str]  # digest of what the version is shown, digest of the options


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


def evaluate(
    db: Database, home: Home, client: "Ollama", version: Version, suite: Suite, emit: Emit
) -> Evaluation:
    """Ask the version every question it has not been asked yet; return the row.

    Greedy, with explicit options, several questions at a time, all of one version together.
    An answer that does not stop by itself is wrong, whatever it says, unless the question only
    tells what must not be said.

    Raises RuntimeUnavailable if the runtime fails; what was answered until then is kept.
    """
    name = "" if suite.name == TEST else suite.name
    found = newest(db, Evaluation, version=version.key, suite_digest=suite.digest, suite=name)
    if found:
        return found
    _ask(db, client, version, unasked(db, version, suite), emit)
    replies = _replies(db, version)
    results = [_answered(q, _answer_of(replies[reply_key(q)])) for q in suite.questions]
    # A suite may be a file that is edited later: what was asked is kept as it was asked.
    freeze(home.data("suites"), suite.content, ".jsonl")
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
            suite=name,
        ),
    )


def answers(home: Home, evaluation: Evaluation) -> list[Answered]:
    """The questions of an evaluation with the answers that were served."""
    path = artefact(home.data("evaluations"), evaluation.digest, ".json")
    return _load(path)


def unasked(db: Database, version: Version, suite: Suite) -> list[Conversation]:
    """The suite's questions that this version was never asked, each prompt once."""
    known = _replies(db, version)
    missing = {reply_key(q): q for q in suite.questions if reply_key(q) not in known}
    return list(missing.values())


def _load(path: Path) -> list[Answered]:
    return [Answered(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _replies(db: Database, version: Version) -> dict[Key, Reply]:
    # A version is immutable and asked greedily: what it answered once, it answers again.
    rows = every(db, Reply, version_digest=version.digest)
    return {(row.prompt_digest, row.options_digest): row for row in rows}


def _ask(
    db: Database,
    client: "Ollama",
    version: Version,
    questions: Sequence[Conversation],
    emit: Emit,
) -> None:
    batches: defaultdict[int, list[Conversation]] = defaultdict(list)
    for question in questions:
        batches[_budget(question)].append(question)
    count = _counter(version.tag, len(questions), emit)
    for budget in sorted(batches):
        batch = batches[budget]

        def keep(place: int, answer: "Answer", batch: Sequence[Conversation] = batch) -> None:
            append(db, _reply(version, batch[place], answer))
            count()

        client.ask_many(
            version.tag,
            [asked(question) for question in batch],
            options=_options(budget),
            think=False,
            on_answer=keep,
        )


def _counter(name: str, total: int, emit: Emit) -> Callable[[], None]:
    begun, done = time.monotonic(), 0

    def count() -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - begun) / done * (total - done)
        emit(Count(name=name, done=done, total=total, unit="questions", eta_seconds=left))

    return count


def _reply(version: Version, question: Conversation, answer: "Answer") -> Reply:
    prompt, options = reply_key(question)
    return Reply(
        version_digest=version.digest,
        prompt_digest=prompt,
        options_digest=options,
        text=answer.text,
        done_reason=answer.done_reason if answer.done else "",
        prompt_tokens=answer.prompt_tokens,
        answer_tokens=answer.answer_tokens,
        prompt_seconds=answer.prompt_seconds,
        answer_seconds=answer.answer_seconds,
        total_seconds=answer.total_seconds,
        load_seconds=answer.load_seconds,
    )


def reply_key(question: Conversation) -> Key:
    """What the answer to a question is kept under: the turns that are shown, and the options."""
    turns = [[message.role, message.content] for message in asked(question)]
    shown = digest_bytes(json.dumps(turns, ensure_ascii=False).encode())
    return shown, _options_digest(_budget(question))


def _options(budget: int) -> Mapping[str, object]:
    return GREEDY | {"num_predict": budget}


def _options_digest(budget: int) -> str:
    return digest_bytes(json.dumps(_options(budget), sort_keys=True).encode())


def _budget(question: Conversation) -> int:
    # No tokenizer is at hand here: a token is about four ASCII letters, and at most one byte of
    # anything else. Twice that is room for an answer in other words; beyond it the model rambles.
    if only_forbids(question):
        return FREE
    reference = question.answer
    plain = sum(character.isascii() for character in reference)
    room = 2 * (plain // 4 + len(reference.encode()) - plain) + ROOM
    return max(LEAST, -(-room // STEP) * STEP)


def _answer_of(reply: Reply) -> "Answer":
    from ollama_ft.runtime.answers import Answer

    return Answer(
        text=reply.text,
        done=bool(reply.done_reason),
        done_reason=reply.done_reason,
        prompt_tokens=reply.prompt_tokens,
        answer_tokens=reply.answer_tokens,
        prompt_seconds=reply.prompt_seconds,
        answer_seconds=reply.answer_seconds,
        total_seconds=reply.total_seconds,
        load_seconds=reply.load_seconds,
    )


def _answered(question: Conversation, answer: "Answer") -> Answered:
    scores = score(answer.text, question)
    stopped = answer.done and stops(answer.done_reason)
    return Answered(
        question_digest=question.digest,
        question=question.question,
        expected=question.answer,
        answer=answer.text,
        right=is_right(question, answer.text, scores, stopped=stopped),
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
