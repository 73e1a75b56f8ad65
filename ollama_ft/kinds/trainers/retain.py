"""Learning without forgetting: at every step a little general text, on which nothing shall change.

The base is asked once, before its adapter has learned anything, what comes next everywhere in the
text. Each step adds the cross-entropy of the adapted model with a few of these answers: up to a
constant, the Kullback-Leibler divergence from the base. The text is none of what is taught.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from ollama_ft.kinds.trainers.job import Row
from ollama_ft.kinds.trainers.model import Said, Scorer

PIECES = 1  # of general text in a step
LIKELIEST = 32  # tokens kept of what the base says at a place
AT_ONCE = 4  # pieces for which the base is asked together


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Pieces of text, and what the base says at every place in them."""

    scorer: Scorer
    rows: tuple[Row, ...]
    said: tuple[Said, ...]

    @classmethod
    def ask(cls, scorer: Scorer, general: Sequence[Sequence[int]]) -> Self:
        """Ask the base, whose adapter must not have been trained or restored yet."""
        rows = tuple(
            Row(prompt=(piece[0],), answer=tuple(piece[1:])) for piece in general if len(piece) > 1
        )
        scorer.eval()
        said: list[Said] = []
        with torch.no_grad():
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                together = scorer.likeliest(scorer.batch(some), LIKELIEST)
                lengths = [len(row.answer) for row in some]
                said += [
                    Said(tokens=tokens, chances=chances)
                    for tokens, chances in zip(
                        torch.split(together.tokens, lengths),
                        torch.split(together.chances, lengths),
                        strict=True,
                    )
                ]
        return cls(scorer=scorer, rows=rows, said=tuple(said))

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean cross-entropy over the places of this step's pieces, nats. `model`: the scorer, as
        accelerate wrapped it.
        """
        places = [(step * PIECES + i) % len(self.rows) for i in range(min(PIECES, len(self.rows)))]
        rows = [self.rows[i] for i in places]
        wanted = Said(
            tokens=torch.cat([self.said[i].tokens for i in places]),
            chances=torch.cat([self.said[i].chances for i in places]),
        )
        total: Tensor = model(self.scorer.batch(rows), wanted)
        return total / len(wanted.tokens)
