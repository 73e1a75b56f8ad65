"""What the bare base says where it is told more: hidden states at the answer's places.

The teacher is the model in training itself with its adapter at rest, and with passages in its
prompt that the pupil does not see. It is asked once, before the first step; what it says is kept
as hidden states, from which the head makes the whole distribution at each place. They lie on disk,
mapped: a place takes as many numbers as the model is wide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import torch
from torch import Tensor

from ollama_ft.core.files import write_atomic
from ollama_ft.kinds.trainers.batching import in_order
from ollama_ft.kinds.trainers.job import Job, Row
from ollama_ft.kinds.trainers.model import Said, Scorer

AT_ONCE = 4  # rows for which the base is asked together


def base_states(scorer: Scorer, rows: Sequence[Row]) -> Iterator[Tensor]:
    """The bare base's hidden states at each row's answer places, in order: (answer, width), of the
    head's dtype."""
    scorer.eval()
    with torch.no_grad(), scorer.bare():
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            states = scorer.states(scorer.batch(some)).to(scorer.dtype)
            yield from torch.split(states, [len(row.answer) for row in some])


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What the base said to the rows that have a prompt for it."""

    states: Tensor  # (places, width), of the head's dtype
    starts: dict[Row, int]  # the row as the teacher was asked → where its places begin
    share: float  # of the loss of such a row

    @classmethod
    def ask(cls, scorer: Scorer, job: Job, *, write: bool = True) -> Self | None:
        """Ask the base what `job` wants it to be asked; None if that is nothing.

        What it says is kept in the job's folder, `teacher_file`, and read there by a resumed run;
        `write` False only reads it. Raises OutOfResources when the disk is full.
        """
        rows = teachers_rows(job)
        if not rows:
            return None
        file, dtype = teacher_file(job, scorer), scorer.dtype
        if write and not file.is_file():
            write_atomic(file, lambda out: _write(out, base_states(scorer, rows)))
        places = sum(len(row.answer) for row in rows)
        flat = torch.from_file(str(file), size=places * scorer.width, dtype=dtype)
        starts, at = {}, 0
        for row in rows:
            starts[row] = at
            at += len(row.answer)
        return cls(states=flat.view(places, scorer.width), starts=starts, share=job.recipe.distill)

    def said(self, rows: Sequence[Row]) -> list[Said]:
        """What the answer places of a batch of `rows` are to say, and how much each counts."""
        alone: list[int] = []
        taught: list[int] = []
        heard: list[Tensor] = []
        place = 0
        for row in rows:
            places = range(place, place + len(row.answer))
            place = places.stop
            if row.teacher:
                start = self.starts[_asked(row)]
                heard.append(self.states[start : start + len(row.answer)])
                taught += places
            else:
                alone += places
        found = [Said(at=torch.tensor(alone), weight=1.0)] if alone else []
        if taught:
            at = torch.tensor(taught)
            found.append(Said(at=at, weight=1.0 - self.share))
            found.append(Said(at=at, weight=self.share, states=torch.cat(heard)))
        return [one for one in found if one.weight]


def teachers_rows(job: Job) -> list[Row]:
    """The rows that the teacher is asked, each once, those of like length side by side."""
    if not job.recipe.distill:
        return []
    asked = list(dict.fromkeys(_asked(row) for row in job.train if row.teacher))
    return [asked[i] for (i,) in in_order(asked, 1)]


def teacher_file(job: Job, scorer: Scorer) -> Path:
    """Where the hidden states of this very job are kept while it is trained."""
    name = job.identity.removeprefix("sha256:")[:16]
    return job.folder / f"teacher-{name}-{str(scorer.dtype).removeprefix('torch.')}.bin"


def _asked(row: Row) -> Row:
    return Row(prompt=row.teacher, answer=row.answer)


def _write(out: IO[bytes], found: Iterator[Tensor]) -> None:
    for states in found:
        out.write(states.cpu().contiguous().view(torch.uint8).numpy().tobytes())
