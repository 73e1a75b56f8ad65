"""The plan of a run: which rows at which step, at what learning rate, and when to validate."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ollama_ft.core.recipe import Recipe
from ollama_ft.kinds.trainers.batching import heard, plan_batches, step_count
from ollama_ft.kinds.trainers.job import Job, Row

LEAST_VALIDATIONS = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything about a run that is known before it starts."""

    rows: tuple[Row, ...]
    asked: tuple[Mapping[int, Row], ...]
    known: tuple[int, ...]  # places of rows that are only drawn from
    recipe: Recipe
    seed: int
    steps: int
    validate_every: int  # steps; 0 = never

    def epoch(self, step: int) -> float:
        """Passes over the rows that are done after `step` steps."""
        return step / self.per_epoch

    def batch(self, step: int) -> list[Row]:
        """The rows of the step after `step` steps."""
        epoch, place = divmod(step, self.per_epoch)
        batches = _planned(self.rows, self.recipe.batch_size, self.seed, epoch, self.known)
        asked = self.asked[epoch] if epoch < len(self.asked) else {}
        return [asked.get(i, self.rows[i]) for i in batches[place]]

    def learning_rate(self, step: int) -> float:
        """The rate of the step after `step` steps: a straight rise, then half a cosine to zero."""
        peak, warm = self.recipe.learning_rate, math.ceil(self.recipe.warmup_ratio * self.steps)
        if step < warm:
            return peak * (step + 1) / warm
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))

    def validates_after(self, step: int) -> bool:
        """Whether the validation rows are scored once `step` steps are done."""
        every = self.validate_every
        return every > 0 and (step % every == 0 or step == self.steps)

    @property
    def per_epoch(self) -> int:
        """Steps of one pass."""
        return math.ceil(heard(len(self.rows), len(self.known)) / self.recipe.batch_size)


def make_plan(job: Job) -> Plan:
    """The plan of `job`."""
    size = job.recipe.batch_size
    rows = heard(len(job.train), len(job.known))
    steps = step_count(rows, size, job.recipe.epochs)
    every = job.validate_steps
    if every is None:
        every = min(math.ceil(rows / size), math.ceil(steps / LEAST_VALIDATIONS))
    return Plan(
        rows=job.train,
        asked=job.asked,
        known=job.known,
        recipe=job.recipe,
        seed=job.seed,
        steps=steps,
        validate_every=every if job.valid else 0,
    )


@functools.lru_cache(maxsize=2)
def _planned(
    rows: Sequence[Row], size: int, seed: int, epoch: int, known: tuple[int, ...]
) -> list[list[int]]:
    return plan_batches(rows, size, seed, epoch, known)
