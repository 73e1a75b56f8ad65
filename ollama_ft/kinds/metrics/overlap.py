"""How much of the reference's wording comes back: BLEU and chrF (sacrebleu), ROUGE (rouge-score).

Wording is not truth: "open on Monday" and "closed on Monday" overlap well.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ollama_ft.core.conversation import Conversation
from ollama_ft.kinds.filters import script
from ollama_ft.kinds.metrics.shapes import Served
from ollama_ft.kinds.metrics.words import tokens

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

# sacrebleu's tokenizer by the script of most references; Latin and all others: 13a, its default.
TOKENIZERS = {"Chinese": "zh", "Japanese": "char", "Korean": "char"}


def bleu(served: Sequence[Served]) -> float:
    """Corpus BLEU of the answers against their references, 0 to 100.

    Papineni et al. 2002 (ACL P02-1040) as sacrebleu computes it (Post 2018, arXiv 1804.08771):
    one reference, case counts, exponential smoothing; signature
    `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`, with `tok:zh` where most references are Chinese.
    Only figures with the same signature compare. Short answers have few 4-grams: prefer chrF there.
    """
    from sacrebleu.metrics.bleu import BLEU

    answers, references = _texts(served)
    tokenizer = TOKENIZERS.get(script("\n".join(references)), "13a")
    # `force`: it warns of answers that end in " ." and takes them for tokenised text.
    metric = BLEU(tokenize=tokenizer, force=True)
    return float(metric.corpus_score(answers, [references]).score)


def chrf(served: Sequence[Served]) -> float:
    """Corpus chrF of the answers against their references, 0 to 100.

    F of character n-grams up to 6, recall weighing twice as much (β = 2), spaces left out: Popović
    2015 (ACL W15-3049), chrF2 as sacrebleu computes it. The same for every script, since it knows
    no words.
    """
    from sacrebleu.metrics.chrf import CHRF

    answers, references = _texts(served)
    return float(CHRF().corpus_score(answers, [references]).score)


def rouge_1(answer: str, question: Conversation) -> float:
    """F1 of the tokens that answer and reference share: ROUGE-1 (Lin 2004, ACL W04-1013), 0 to 1.

    As rouge-score computes it, without stemming, on `tokens`: its own tokenizer drops every
    character outside a-z and 0-9, and so all Chinese.
    """
    return _rouge(answer, question, "rouge1")


def rouge_2(answer: str, question: Conversation) -> float:
    """F1 of the pairs of neighbouring tokens that answer and reference share; see rouge_1."""
    return _rouge(answer, question, "rouge2")


def rouge_l(answer: str, question: Conversation) -> float:
    """F1 of the longest common subsequence of tokens: ROUGE-L; see rouge_1."""
    return _rouge(answer, question, "rougeL")


class _Words:
    """Our `tokens` in the form that rouge-score takes a tokenizer in."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


def _rouge(answer: str, question: Conversation, name: str) -> float:
    scores: dict[str, Any] = _scorer(name).score(question.answer, answer)
    return float(scores[name].fmeasure)


@cache
def _scorer(name: str) -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([name], tokenizer=_Words())


def _texts(served: Sequence[Served]) -> tuple[list[str], list[str]]:
    return [one.answer for one in served], [one.question.answer for one in served]
