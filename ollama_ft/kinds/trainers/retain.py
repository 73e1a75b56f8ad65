"""Learning without forgetting: at every step a little general text, on which nothing shall change.

The bare base is asked once what comes next everywhere in the text: its hidden states there are
kept, from which the head makes the whole distribution. Each step
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
from ollama_ft.kinds.trainers.model import Said, Scorer
from ollama_ft.kinds.trainers.teacher import base_states

PIECES = 2  # in a step: a piece of text and a chat


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Text and chats, and the base's hidden states at every place in them: (places, width)."""

    scorer: Scorer
    rows: tuple[Row, ...]
    said: tuple[Tensor, ...]

    @classmethod
    def ask(cls, scorer: Scorer, general: Sequence[Row]) -> Self:
        """Ask the base what comes next at every place of these rows' answers."""
        return cls(scorer=scorer, rows=tuple(general), said=tuple(base_states(scorer, general)))

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Mean divergence over the places of this step's pieces, nats. `model`: the scorer, as
        accelerate wrapped it.
        """
        places = [(step * PIECES + i) % len(self.rows) for i in range(min(PIECES, len(self.rows)))]
        said = torch.cat([self.said[i] for i in places])
        batch = self.scorer.batch([self.rows[i] for i in places])
        total: Tensor = model(batch, [Said(states=said)])
        return total / len(said)
