"""Metrics: from answers and the questions they answer to a number. Two shapes, by type:

    Metric          one answer and its question → a number; over many answers, their mean
    CorpusMetric    all answers together → a number that is no mean of anything

words.py        what a token is, in any script
matching.py     exact, contains, regex, token_f1, length
manner.py       length_ratio, refusals, stops, distinct_1, distinct_2
overlap.py      bleu, chrf, rouge_1, rouge_2, rouge_l
labels.py       accuracy, macro_f1, auc, for suites whose answers are labels
speed.py        latency, tokens_per_second, from the runtime's own clock
likelihood.py   loss, perplexity of the references, from the trainer's model

"right" means `contains`.
"""

from collections.abc import Sequence

from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import BadInput
from ollama_ft.core.plugins import Register, collect, hookimpl
from ollama_ft.kinds.metrics.labels import accuracy, auc, macro_f1
from ollama_ft.kinds.metrics.likelihood import loss, perplexity
from ollama_ft.kinds.metrics.manner import (
    distinct_1,
    distinct_2,
    length_ratio,
    refusal,
    stop_rate,
    stops,
)
from ollama_ft.kinds.metrics.matching import contains, exact, length, regex, token_f1
from ollama_ft.kinds.metrics.overlap import bleu, chrf, rouge_1, rouge_2, rouge_l
from ollama_ft.kinds.metrics.shapes import CorpusMetric, Metric, Served
from ollama_ft.kinds.metrics.speed import latency, timings, tokens_per_second
from ollama_ft.kinds.metrics.words import tokens

__all__ = [
    "METRICS",
    "CorpusMetric",
    "Metric",
    "Served",
    "contains",
    "exact",
    "find",
    "length",
    "measure",
    "regex",
    "score",
    "stops",
    "timings",
    "token_f1",
    "tokens",
]

METRICS: dict[str, Metric | CorpusMetric] = {
    metric.name: metric
    for metric in (
        Metric(name="exact", measure=exact),
        Metric(name="contains", measure=contains),
        Metric(name="token_f1", measure=token_f1),
        Metric(name="length", measure=length),
        Metric(name="regex", measure=regex, always=False),
        Metric(name="length_ratio", measure=length_ratio, always=False),
        Metric(name="refusals", measure=refusal, always=False),
        Metric(name="rouge_1", measure=rouge_1, always=False),
        Metric(name="rouge_2", measure=rouge_2, always=False),
        Metric(name="rouge_l", measure=rouge_l, always=False),
        CorpusMetric(name="stops", measure=stop_rate),
        CorpusMetric(name="distinct_1", measure=distinct_1),
        CorpusMetric(name="distinct_2", measure=distinct_2),
        CorpusMetric(name="bleu", measure=bleu),
        CorpusMetric(name="chrf", measure=chrf),
        CorpusMetric(name="accuracy", measure=accuracy),
        CorpusMetric(name="macro_f1", measure=macro_f1),
        CorpusMetric(name="auc", measure=auc, needs="chances"),
        CorpusMetric(name="latency", measure=latency),
        CorpusMetric(name="tokens_per_second", measure=tokens_per_second),
        CorpusMetric(name="loss", measure=loss, needs="likelihood"),
        CorpusMetric(name="perplexity", measure=perplexity, needs="likelihood"),
    )
}


@hookimpl
def register_metrics(register: Register) -> None:
    """Bring in the metrics above."""
    for name, metric in METRICS.items():
        register(name, metric)


def score(answer: str, question: Conversation) -> dict[str, float]:
    """The cheap metrics of one answer, by name: those taken of every answer in every evaluation.

    `question` carries the reference and `accept`. What does not apply to a question is left out.
    """
    scores = {
        name: metric.measure(answer, question)
        for name, metric in _known().items()
        if isinstance(metric, Metric) and metric.always
    }
    return {name: value for name, value in scores.items() if value is not None}


def find(names: Sequence[str]) -> list[Metric | CorpusMetric]:
    """The metrics with these names. Raises BadInput, with all names, for one that is not known."""
    known = _known()
    for name in names:
        if name not in known:
            raise BadInput(
                f"There is no metric {name!r}. Known: {', '.join(sorted(known))}.",
                mend="ollama-ft plugins",
            )
    return [known[name] for name in dict.fromkeys(names)]


def measure(metric: Metric | CorpusMetric, served: Sequence[Served]) -> float | None:
    """One metric of one version's answers; None if it applies to none of them.

    Raises BadInput if the metric's library is not installed.
    """
    try:
        if isinstance(metric, CorpusMetric):
            return metric.measure(served) if served else None
        values = [metric.measure(one.answer, one.question) for one in served]
    except ModuleNotFoundError as error:
        raise BadInput(
            f"The metric {metric.name} needs {error.name}, which is not installed.",
            mend="pip install 'ollama-ft[eval]'",
        ) from error
    fit = [value for value in values if value is not None]
    return sum(fit) / len(fit) if fit else None


def _known() -> dict[str, Metric | CorpusMetric]:
    return {name: loaded.thing for name, loaded in collect("metrics").items()}
