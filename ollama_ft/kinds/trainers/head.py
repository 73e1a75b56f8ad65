"""The loss on the answer tokens, without ever holding the logits of more than a few of them.

What shall be said at a place is either one token, the answer to learn, or all that a teacher says
there: its hidden state, which the same head turns into a distribution over the whole vocabulary.

The head is frozen, so the gradient of the hidden states is known as soon as a chunk's logits are:
it is kept, the logits are thrown away. Memory is CHUNK · vocabulary, whatever the batch.
"""

from typing import Any

import torch

CHUNK_FLOATS = 1 << 24  # logits held at once, 64 MiB in fp32


class AnswerLoss(torch.autograd.Function):
    """Sum of the losses, nats: negative log-likelihoods of tokens, or the Kullback-Leibler
    divergences from a teacher. The head's weight and the teacher get no gradient.

    hidden: (A, width), weight: (vocabulary, width), said: (A,) ids or (A, width) states → ()
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        said: torch.Tensor,
        softcap: float | None,
    ) -> torch.Tensor:
        """Score chunk by chunk, and keep the gradient of `hidden`."""
        needed = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if needed else None
        total = torch.zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else None)
        total = total.to(hidden.device)
        size = max(1, CHUNK_FLOATS // weight.shape[0])
        score = _against_teacher if said.is_floating_point() else _against_tokens
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            logits = _logits(hidden[part], weight, softcap)
            bend = None
            if needed and softcap is not None:
                bend = 1 - (logits / softcap) ** 2  # d tanh
            wanted = said[part]
            if said.is_floating_point():
                wanted = _logits(wanted, weight, softcap)
            losses, slope = score(logits, wanted, needed)
            total += losses.sum()
            if gradient is not None and slope is not None:
                slope = slope if bend is None else slope.mul_(bend)
                torch.mm(slope.to(weight.dtype), weight, out=gradient[part])
        ctx.save_for_backward(gradient)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale what forward has kept."""
        (gradient,) = ctx.saved_tensors
        return gradient * slopes[0].to(gradient.dtype), None, None, None


def _logits(hidden: torch.Tensor, weight: torch.Tensor, softcap: float | None) -> torch.Tensor:
    # (C, width) → (C, vocabulary), fp32, a buffer of its own
    logits = torch.mm(hidden.to(weight.dtype), weight.t()).float()
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


def _against_tokens(
    logits: torch.Tensor, tokens: torch.Tensor, needed: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    # Losses (C,) and d loss / d logits (C, vocabulary). All in the one buffer: at this moment
    # everything else that training keeps is alive, too.
    logits.sub_(logits.amax(-1, keepdim=True))
    picked = logits.gather(1, tokens[:, None])
    total = logits.exp_().sum(-1, keepdim=True)
    losses = (total.log() - picked)[:, 0]
    if not needed:
        return losses, None
    slope = logits.div_(total)  # softmax
    slope.scatter_add_(1, tokens[:, None], slope.new_full((len(slope), 1), -1.0))
    return losses, slope


def _against_teacher(
    logits: torch.Tensor, teacher: torch.Tensor, needed: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    # The same for the divergences from the softmax of `teacher` (C, vocabulary)
    ours, theirs = logits.log_softmax(-1), teacher.log_softmax(-1)
    divergence = torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True)
    return divergence.sum(1), ours.exp_().sub_(theirs.exp_()) if needed else None


def answer_loss(
    hidden: torch.Tensor, head: torch.nn.Module, said: torch.Tensor, softcap: float | None
) -> torch.Tensor:
    """Sum of the losses of what the head says after `hidden` (A, width), nats.

    `said`: token ids (A,), for their negative log-likelihood; or a teacher's hidden states
    (A, width), for the Kullback-Leibler divergence from what the head says after those.
    """
    weight = head.weight
    assert isinstance(weight, torch.Tensor)
    if getattr(head, "bias", None) is not None or weight.requires_grad or weight.dtype.itemsize < 2:
        return _plainly(hidden, head, said, softcap)
    hidden = hidden.to(weight.dtype)
    loss: torch.Tensor = AnswerLoss.apply(hidden, weight, said, softcap)  # type: ignore[no-untyped-call]
    return loss


def _plainly(
    hidden: torch.Tensor, head: torch.nn.Module, said: torch.Tensor, softcap: float | None
) -> torch.Tensor:
    # For heads with a bias, trained or packed ones: through autograd, all logits at once.
    def told(states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = head(states).float()
        logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
        return logits.log_softmax(-1)

    ours = told(hidden)
    if not said.is_floating_point():
        return -ours.gather(1, said[:, None]).sum()
    with torch.no_grad():
        theirs = told(said)
    return torch.nn.functional.kl_div(ours, theirs, reduction="sum", log_target=True)
