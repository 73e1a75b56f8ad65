"""More metrics of an evaluation than the cheap ones: from the stored answers, when asked for.

Reads:  evaluations, versions, bases, runs
Writes: measurements

Nothing is asked again. Metrics of the references' likelihood need the trainer's model, which is
loaded for them; they are taken once for an evaluation, since nothing that they hang on can change.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.conversation import Conversation, Message, normalise
from ollama_ft.core.errors import BadInput
from ollama_ft.core.files import artefact
from ollama_ft.core.home import Home
from ollama_ft.core.judged_records import Measurement
from ollama_ft.core.records import Base, Evaluation, Run, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds import metrics as kinds
from ollama_ft.kinds.metrics.labels import labels_of
from ollama_ft.kinds.metrics.likelihood import likelihoods, share_out
from ollama_ft.kinds.metrics.shapes import CorpusMetric, Metric, Served

Render = Callable[[Sequence[Message]], str]
Likely = Callable[[Sequence[Conversation]], list[tuple[float, int]]]  # see kinds' likelihoods


def measure(
    db: Database,
    home: Home,
    evaluation: Evaluation,
    metrics: Iterable[Metric | CorpusMetric],
    served: Sequence[Served],
    render: Render,
) -> dict[str, float | None]:
    """Each metric of the evaluation's answers, by name; None where it applies to none of them.

    `render`: how the runtime renders this version's prompts; called only for what needs the
    trainer's model. A row is appended for each value that is new.

    Raises BadInput if a library is not installed, NotFound if the run's adapter is gone.
    """
    values: dict[str, float | None] = {}
    for metric in metrics:
        known = newest(db, Measurement, evaluation=evaluation.key, name=metric.name)
        needs = metric.needs if isinstance(metric, CorpusMetric) else ""
        if known and needs:
            values[metric.name] = known.value
            continue
        if needs and not any(getattr(one, needs) for one in served):
            served = _add(needs, served, lambda rows: _ask(db, home, evaluation, rows, render))
        value = values[metric.name] = kinds.measure(metric, served)
        if known is None or known.value != value:
            append(db, Measurement(evaluation=evaluation.key, name=metric.name, value=value))
    return values


def measured(db: Database, evaluation: Evaluation) -> dict[str, float | None]:
    """The newest value of each metric that was ever taken of an evaluation on request."""
    rows = reversed(every(db, Measurement, evaluation=evaluation.key))
    return {found.name: found.value for found in rows}


def _add(needs: str, served: Sequence[Served], likely: Likely) -> list[Served]:
    questions = [one.question for one in served]
    if needs == "likelihood":
        pairs = zip(served, likely(questions), strict=True)
        return [replace(one, likelihood=told) for one, told in pairs]
    labels = labels_of(questions)
    if not labels:
        return list(served)
    written = {normalise(q.answer): q.answer for q in reversed(questions)}  # label → as it stands
    told = iter(likely([_answering(q, written[label]) for q in questions for label in labels]))
    return [
        replace(one, chances=share_out({label: next(told)[0] for label in labels}))
        for one in served
    ]


def _answering(question: Conversation, answer: str) -> Conversation:
    turn = Message(role="assistant", content=answer)
    return replace(question, messages=(*question.prompt, turn))


def _ask(
    db: Database, home: Home, evaluation: Evaluation, rows: Sequence[Conversation], render: Render
) -> list[tuple[float, int]]:
    """What the trainer's model of the evaluated version gives each row's answer."""
    from ollama_ft.kinds.rendering import render_rows, tokenise
    from ollama_ft.runtime.store import Store

    version = row(db, Version, evaluation.version)
    run = row(db, Run, version.run) if version.run else None
    adapter = artefact(home.data("runs"), run.digest, "") / "adapter" if run else None
    blob = Store(home.models).blob_path(row(db, Base, version.base).blob_digest)
    rendered = render_rows(render, rows)
    try:
        from ollama_ft.weights.reader import open_gguf
        from ollama_ft.weights.tokenizer import load_tokenizer

        with open_gguf(blob) as gguf:
            tokenizer = load_tokenizer(gguf)
        pairs = zip(rendered, rows, strict=True)
        return likelihoods(blob, adapter, [tokenise(tokenizer, r, q.answer) for r, q in pairs])
    except ModuleNotFoundError as error:
        raise BadInput(
            f"The likelihood of a reference is taken from the trainer's model, and {error.name} "
            "is not installed.",
            mend="pip install 'ollama-ft[train]'",
        ) from error
