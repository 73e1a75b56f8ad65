"""Learning without forgetting: at every step a little general text, on which nothing shall change.

The base is asked once, before its adapter has learned anything, what comes next everywhere in the
text: its hidden states there are kept, from which the head makes the whole distribution. Each step
adds the adapted model's Kullback-Leibler divergence from a few of them. Distributions cut to the
likeliest tokens will not do: a fifth of the probability lies outside of the likeliest 32, and a
model held to the rest unlearns the rare words. The text is none of what is taught.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from ollama_ft.kinds.trainers.job import Row
from ollama_ft.kinds.trainers.model import Scorer

PIECES = 1  # of general text in a step
AT_ONCE = 4  # pieces for which the base is asked together


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Pieces of text, and the base's hidden states at every place in them: (places, width)."""

    scorer: Scorer
    rows: tuple[Row, ...]
    said: tuple[Tensor, ...]

    @classmethod
    def ask(cls, scorer: Scorer, general: Sequence[Sequence[int]]) -> Self:
        """Ask the base, whose adapter must not have been trained or restored yet."""
        rows = tuple(
            Row(prompt=(piece[0],), answer=tuple(piece[1:])) for piece in general if len(piece) > 1
        )
        scorer.eval()
        said: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                states = scorer.states(scorer.batch(some))
                said += torch.split(states, [len(row.answer) for row in some])
        return cls(scorer=scorer, rows=rows, said=tuple(said))

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean divergence over the places of this step's pieces, nats. `model`: the scorer, as
        accelerate wrapped it.
        """
        places = [(step * PIECES + i) % len(self.rows) for i in range(min(PIECES, len(self.rows)))]
        said = torch.cat([self.said[i] for i in places])
        total: Tensor = model(self.scorer.batch([self.rows[i] for i in places]), said)
        return total / len(said)
