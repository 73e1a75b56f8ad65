"""Which rows make a batch, and how a batch becomes tensors: packed, its shared prefix once.

A packed batch is one line of tokens, [prefix | rest of row 1 | rest of row 2 | … | filler], where
the prefix is what all prompts of the batch begin with. Nothing is padded but inside attention, and
each row sees the prefix and itself (attention.py): the numbers are those of the padded batch.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_ft.kinds.trainers.job import Row

if TYPE_CHECKING:
    import torch

WINDOW = 16  # batches that are sorted by length together: long enough to bucket, still shuffled
SHORTEST_PREFIX = 4  # tokens; a shorter one costs more to handle than it saves
LEAST_FILL = 16  # tokens; see `_filler`


def plan_batches(
    rows: Sequence[Row], size: int, seed: int, epoch: int, known: Sequence[int] = ()
) -> list[list[int]]:
    """Indices of rows for every batch of one epoch: shuffled, then alike in length within a batch.

    Of the rows at `known` only some are drawn, others in each epoch (see `heard`). The plan hangs
    on nothing but the arguments, so that a resumed run finds its place in it.
    """
    chance = random.Random(f"{seed}/{epoch}")  # text seeds are hashed alike on every machine
    left = set(known)
    order = [i for i in range(len(rows)) if i not in left]
    order += chance.sample(sorted(left), heard(len(rows), len(left)) - len(order))
    chance.shuffle(order)
    batches = []
    for start in range(0, len(order), WINDOW * size):
        window = sorted(order[start : start + WINDOW * size], key=lambda i: len(rows[i]))
        batches += [window[i : i + size] for i in range(0, len(window), size)]
    chance.shuffle(batches)
    return batches


def heard(rows: int, known: int) -> int:
    """How many rows an epoch has: all, or the new ones and as many of those `known` already.

    One row of replay for each new one keeps what was learned (Hickok 2025, "Scalable strategies
    for continual learning with replay").
    """
    new = rows - known
    return new + min(known, new)


def in_order(rows: Sequence[Row], size: int) -> list[list[int]]:
    """Indices of rows for every batch of a pass without training: by length, nothing random."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    return [order[i : i + size] for i in range(0, len(order), size)]


def step_count(rows: int, size: int, epochs: float) -> int:
    """Optimizer steps of a whole run, at least one."""
    return max(1, math.ceil(epochs * math.ceil(rows / size) - 1e-9))


def shared_prefix(rows: Sequence[Row]) -> int:
    """How many tokens all prompts begin with; 0 where sharing does not pay.

    Each row keeps at least the last token of its prompt, which asks for the first answer token.
    """
    if len(rows) < 2:
        return 0
    limit = min(len(row.prompt) for row in rows) - 1
    first, last = min(r.prompt for r in rows), max(r.prompt for r in rows)
    same = 0
    while same < limit and first[same] == last[same]:  # what the extremes share, all share
        same += 1
    return same if same >= SHORTEST_PREFIX else 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch as tensors: T tokens in a line, R rows, A answer tokens, L in the longest rest."""

    ids: "torch.Tensor"  # (1, T)
    positions: "torch.Tensor"  # (1, T), each row's own count
    prefix: int  # tokens in front that all rows share
    rows: int
    longest: int  # L
    grid: "torch.Tensor | None"  # (R * L,) where in the line; None: the line is the grid
    line: "torch.Tensor | None"  # (end - prefix,) where in the grid
    end: int  # places in the line before the filler
    asks: "torch.Tensor"  # (A,) places in the line whose next token is an answer token
    answers: "torch.Tensor"  # (A,)
    row_tokens: int  # with the prefix counted in every row


def make_batch(rows: Sequence[Row], device: str = "cpu") -> Batch:
    """Pack `rows` into one line of tokens."""
    import torch

    prefix = shared_prefix(rows)
    ids = list(rows[0].prompt[:prefix])
    positions = list(range(prefix))
    asks: list[int] = []
    for row in rows:
        start = len(ids) - prefix  # where the row would begin if it had the prefix itself
        ids += [*row.prompt[prefix:], *row.answer]
        positions += range(prefix, len(row))
        asks += range(start + len(row.prompt) - 1, start + len(row) - 1)
    lengths = [len(row) - prefix for row in rows]
    filler = _filler(len(ids))
    ids += ids[-1:] * filler
    positions += positions[-1:] * filler
    grid, line = _grid(lengths)

    def tensor(values: list[int] | None) -> "torch.Tensor | None":
        return None if values is None else torch.tensor(values, device=device)

    return Batch(
        ids=torch.tensor([ids], device=device),
        positions=torch.tensor([positions], device=device),
        prefix=prefix,
        rows=len(rows),
        longest=max(lengths),
        grid=tensor(grid),
        line=tensor(line),
        end=len(ids) - filler,
        asks=torch.tensor(asks, device=device),
        answers=torch.tensor([token for row in rows for token in row.answer], device=device),
        row_tokens=sum(map(len, rows)),
    )


def _filler(length: int) -> int:
    """Tokens that nothing reads, up to a sixteenth of the line, so that lines have few lengths.

    Tensors of few sizes leave few holes in memory, and kernels are compiled for few shapes.
    """
    step = max(LEAST_FILL, 1 << max(0, length.bit_length() - 5))
    return -length % step


def _grid(lengths: Sequence[int]) -> tuple[list[int] | None, list[int] | None]:
    # From the line of rests to a (R, L) grid and back. A short row is filled up with its own last
    # place: causality hides what stands behind a token, so any place would do.
    longest = max(lengths)
    if min(lengths) == longest:
        return None, None
    grid: list[int] = []
    line: list[int] = []
    start = 0
    for i, length in enumerate(lengths):
        grid += [start + min(j, length - 1) for j in range(longest)]
        line += [i * longest + j for j in range(length)]
        start += length
    return grid, line


@dataclass(frozen=True, kw_only=True)
class PaddedBatch:
    """A batch the plain way, R rows by L tokens: for models whose attention is not known to us."""

    ids: "torch.Tensor"  # (R, L)
    mask: "torch.Tensor"  # (R, L), 1 where a token is
    asks: "torch.Tensor"  # (A,) places in the flattened (R * L)
    answers: "torch.Tensor"  # (A,)
    row_tokens: int


def make_padded_batch(rows: Sequence[Row], device: str = "cpu") -> PaddedBatch:
    """Pad `rows` on the right, each with its own last token."""
    import torch

    longest = max(map(len, rows))
    asks: list[int] = []
    for i, row in enumerate(rows):
        first = i * longest + len(row.prompt) - 1
        asks += range(first, first + len(row.answer))
    ids = [[*row.prompt, *row.answer] + [row.answer[-1]] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return PaddedBatch(
        ids=torch.tensor(ids, device=device),
        mask=torch.tensor(mask, device=device),
        asks=torch.tensor(asks, device=device),
        answers=torch.tensor([token for row in rows for token in row.answer], device=device),
        row_tokens=sum(map(len, rows)),
    )
