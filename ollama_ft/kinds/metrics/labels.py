"""Suites whose answers are labels: "refund", "delivery", "other" …

A suite is labelled if its references repeat: at least two different ones, each of at most
LABEL_TOKENS tokens, and on average at least two questions for each. For any other suite the three
metrics do not apply.
"""

from collections.abc import Sequence

from ollama_ft.core.conversation import Conversation, Message, normalise
from ollama_ft.kinds.metrics.matching import contains
from ollama_ft.kinds.metrics.shapes import Served
from ollama_ft.kinds.metrics.words import tokens

LABEL_TOKENS = 8
NONE = ""  # the class of an answer that names no label, or several


def labels_of(questions: Sequence[Conversation]) -> tuple[str, ...]:
    """The suite's labels, normalised and sorted; empty if it is not labelled."""
    found = sorted({normalise(question.answer) for question in questions})
    short = all(len(tokens(label)) <= LABEL_TOKENS for label in found)
    return tuple(found) if short and 2 <= len(found) <= len(questions) / 2 else ()


def predicted(answer: str, labels: Sequence[str]) -> str:
    """The label that an answer names: it is one, or exactly one stands in it; else NONE.

    A label inside a longer one that is named too ("refund" in "partial refund") is not counted.
    """
    if (whole := normalise(answer)) in labels:
        return whole
    named = [label for label in labels if contains(answer, _label(label))]
    named = [a for a in named if not any(a != b and contains(b, _label(a)) for b in named)]
    return named[0] if len(named) == 1 else NONE


def accuracy(served: Sequence[Served]) -> float | None:
    """The share of answers that name their question's label and no other."""
    wanted, given, _ = _classes(served)
    return sum(a == b for a, b in zip(wanted, given, strict=True)) / len(wanted) if wanted else None


def macro_f1(served: Sequence[Served]) -> float | None:
    """The mean over labels of each label's F1, rare labels weighing as much as common ones.

    The averaged F1 of Opitz and Burst 2019 (arXiv 1911.03347), by scikit-learn's `f1_score`; a
    label that no answer names counts 0. An answer that names no label is wrong for its label, and
    its class is not averaged.
    """
    wanted, given, labels = _classes(served)
    if not wanted:
        return None
    from sklearn.metrics import f1_score

    return float(f1_score(wanted, given, labels=labels, average="macro", zero_division=0))


def auc(served: Sequence[Served]) -> float | None:
    """Area under the ROC curve of the model's own chances for the labels; 0.5 = guessing.

    The chance that a question of a label is given a higher probability of it than one of another
    label (Hanley and McNeil 1982); with more than two labels the mean of one label against the
    rest, by scikit-learn's `roc_auc_score`. `chances` is what the trainer's model gives each label
    as the whole answer, summing to 1 over the labels (likelihood.py). None where nobody measured
    it: an answer alone has no score.
    """
    wanted, _, labels = _classes(served)
    chances = [one.chances for one in served if one.chances is not None]
    if not wanted or len(chances) < len(wanted):
        return None
    from sklearn.metrics import roc_auc_score

    if len(labels) == 2:
        positive = labels[1]
        truth = [label == positive for label in wanted]
        return float(roc_auc_score(truth, [chance[positive] for chance in chances]))
    rows = [[chance[label] for label in labels] for chance in chances]
    return float(roc_auc_score(wanted, rows, labels=labels, multi_class="ovr", average="macro"))


def _classes(served: Sequence[Served]) -> tuple[list[str], list[str], list[str]]:
    labels = labels_of([one.question for one in served])
    if not labels:
        return [], [], []
    wanted = [normalise(one.question.answer) for one in served]
    return wanted, [predicted(one.answer, labels) for one in served], list(labels)


def _label(label: str) -> Conversation:
    return Conversation(messages=(Message(role="assistant", content=label),))
