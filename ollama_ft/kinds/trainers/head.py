"""The loss on the answer tokens, without ever holding the logits of more than a few of them.

What shall be said at a place is a distribution over a few tokens (S of them): one token with
chance 1 for an answer to learn, a teacher's likeliest tokens for text to keep.

The head is frozen, so the gradient of the hidden states is known as soon as a chunk's logits are:
it is kept, the logits are thrown away. Memory is CHUNK · vocabulary, whatever the batch.
"""

from typing import Any

import torch

CHUNK_FLOATS = 1 << 24  # logits held at once, 64 MiB in fp32


class AnswerLoss(torch.autograd.Function):
    """Sum of the cross-entropies with what shall be said, nats; the head's weight gets no gradient.

    hidden: (A, width), weight: (vocabulary, width), tokens and chances: (A, S) → ()
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        tokens: torch.Tensor,
        chances: torch.Tensor,
        softcap: float | None,
    ) -> torch.Tensor:
        """Score chunk by chunk, and keep the gradient of `hidden`."""
        needed = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if needed else None
        total = torch.zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else None)
        total = total.to(hidden.device)
        size = max(1, CHUNK_FLOATS // weight.shape[0])
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            wanted = tokens[part], chances[part]
            losses, slope = _chunk(hidden[part], weight, wanted, softcap, needed)
            total += losses.sum()
            if gradient is not None and slope is not None:
                torch.mm(slope, weight, out=gradient[part])
        ctx.save_for_backward(gradient)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale what forward has kept."""
        (gradient,) = ctx.saved_tensors
        return gradient * slopes[0].to(gradient.dtype), None, None, None, None


def _chunk(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    wanted: tuple[torch.Tensor, torch.Tensor],
    softcap: float | None,
    needed: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    # Losses (C,) and d loss / d logits before the cap (C, vocabulary), in the weight's dtype
    tokens, chances = wanted
    logits = torch.mm(hidden.to(weight.dtype), weight.t()).float()
    bend = None
    if softcap is not None:
        logits = logits.div_(softcap).tanh_()
        bend = 1 - logits * logits if needed else None  # d tanh
        logits = logits.mul_(softcap)
    # All in the one buffer: at this moment everything else that training keeps is alive, too.
    logits.sub_(logits.amax(-1, keepdim=True))
    picked = logits.gather(1, tokens)
    total = logits.exp_().sum(-1, keepdim=True)
    losses = (chances * (total.log() - picked)).sum(1)
    if not needed:
        return losses, None
    slope = logits.div_(total)  # softmax
    slope.scatter_add_(1, tokens, -chances)
    if bend is not None:
        slope.mul_(bend)
    return losses, slope.to(weight.dtype)


def answer_loss(
    hidden: torch.Tensor,
    head: torch.nn.Module,
    tokens: torch.Tensor,
    chances: torch.Tensor,
    softcap: float | None,
) -> torch.Tensor:
    """Sum of the cross-entropies of what the head says after `hidden` (A, width), nats, with what
    shall be said: `tokens` (A, S), of which each has its share of `chances` (A, S), summing to 1.
    """
    weight = head.weight
    assert isinstance(weight, torch.Tensor)
    if getattr(head, "bias", None) is not None or weight.requires_grad or weight.dtype.itemsize < 2:
        logits = head(hidden).float()
        logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
        return -(chances * logits.log_softmax(-1).gather(1, tokens)).sum()
    hidden = hidden.to(weight.dtype)
    loss: torch.Tensor = AnswerLoss.apply(hidden, weight, tokens, chances, softcap)  # type: ignore[no-untyped-call]
    return loss
