"""How likely the references are to a version: loss and perplexity, and chances of labels.

Ollama's API tells the chances of tokens that it writes, at most 20 for a place, and none of a text
that is given. A reference's likelihood can therefore not be read from the served model. It is taken
from the trainer's model: the same GGUF blob, dequantised, with the same adapter, on the prompt as
the runtime renders it. That the served model says what this one says is what the proof proves.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.kinds.metrics.shapes import Served

if TYPE_CHECKING:
    from ollama_ft.kinds.trainers.job import Row


def loss(served: Sequence[Served]) -> float | None:
    """Mean negative log-likelihood of a reference token, in nats, over all references.

    The token that ends the turn counts as one of them. None where nobody measured it.
    """
    told = [one.likelihood for one in served if one.likelihood is not None]
    count = sum(tokens for _, tokens in told)
    return -sum(logprob for logprob, _ in told) / count if count else None


def perplexity(served: Sequence[Served]) -> float | None:
    """exp of `loss`: among how many equally likely tokens the model chooses, on the references.

    Jelinek et al. 1977. Of tokens, so only versions on one base compare.
    """
    nats = loss(served)
    return None if nats is None else math.exp(nats)


def likelihoods(blob: Path, adapter: Path | None, rows: Sequence["Row"]) -> list[tuple[float, int]]:
    """log p of each row's answer after its prompt, in nats, and the answer's tokens.

    By the base in `blob`, with the PEFT adapter in the folder `adapter` or bare; in fp32.

    Raises NotFound if the folder holds no adapter.
    """
    from ollama_ft.kinds.trainers.reference import open_reference

    with open_reference(blob, adapter) as model:
        return [
            (
                model.answer_logprob(row.prompt, row.answer, tuned=adapter is not None),
                len(row.answer),
            )
            for row in rows
        ]


def share_out(logprobs: Mapping[str, float]) -> dict[str, float]:
    """Probabilities that sum to 1 from the log p of each label as the whole answer."""
    highest = max(logprobs.values())
    weights = {label: math.exp(value - highest) for label, value in logprobs.items()}
    whole = sum(weights.values())
    return {label: weight / whole for label, weight in weights.items()}
