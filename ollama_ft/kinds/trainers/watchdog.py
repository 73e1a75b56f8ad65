"""What stops a training that cannot end well, and says what to change."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ollama_ft.core.errors import OutOfResources, Stopped
from ollama_ft.core.recipe import Recipe

CALM = 5  # steps whose mean loss stands for the beginning, and for now
LEAST_RISE = 2.0  # nats above the beginning before a loss counts as exploding


def check_loss(losses: list[float], recipe: Recipe) -> None:
    """Raise Stopped if the newest of `losses` is not finite, or they rise without end.

    Exploding is: the mean of the last 5 steps is twice that of the first 5, and 2 nats more.
    """
    step = len(losses)
    if not math.isfinite(losses[-1]):
        raise _stopped(f"the loss became {losses[-1]} at step {step}", recipe)
    if step < 2 * CALM:
        return
    begin, now = sum(losses[:CALM]) / CALM, sum(losses[-CALM:]) / CALM
    if now > 2 * begin and now > begin + LEAST_RISE:
        what = f"the loss rose from {begin:.2f} to {now:.2f} by step {step}"
        raise _stopped(what, recipe)


def check_gradient(norm: float, step: int, recipe: Recipe) -> None:
    """Raise Stopped if the gradient's norm is not finite."""
    if not math.isfinite(norm):
        raise _stopped(f"the gradient became {norm} at step {step}", recipe)


def _stopped(what: str, recipe: Recipe) -> Stopped:
    lower = recipe.learning_rate / 4
    advice = "Take a lower learning_rate"
    if recipe.warmup_ratio < 0.05:
        advice += " and a warmup_ratio of 0.05 or more"
    if recipe.precision in ("fp16", "nf4"):
        advice += ", or precision fp32"
    return Stopped(
        f"Stopped: {what} (learning_rate {recipe.learning_rate:g}). {advice}; "
        "the best adapter so far is kept.",
        mend=f"ollama-ft train --set learning_rate={lower:g}",
    )


def lack(wanted: str, needed: int, there: int, recipe: Recipe) -> OutOfResources:
    """The error for `needed` bytes of "memory" or "disk" where only `there` are free."""
    what = f"This training needs {needed / 1e9:.1f} GB of {wanted}; {there / 1e9:.1f} GB are free."
    if wanted == "disk":
        return OutOfResources(what + " Make room, or move the home.")
    return OutOfResources(f"{what} {_smaller(recipe)}", mend=_smaller_command(recipe))


@contextmanager
def memory_guard(recipe: Recipe) -> Iterator[None]:
    """Turn whatever torch raises when memory runs out into OutOfResources."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(recipe) from error
    except RuntimeError as error:
        # torch's allocators for the CPU and for Apple's GPUs have no class of their own for it.
        text = str(error).lower()
        if "can't allocate memory" in text or "out of memory" in text:
            raise _out_of_memory(recipe) from error
        raise


def _out_of_memory(recipe: Recipe) -> OutOfResources:
    what = f"The memory ran out at batch_size {recipe.batch_size}. {_smaller(recipe)}"
    return OutOfResources(what, mend=_smaller_command(recipe))


def _smaller(recipe: Recipe) -> str:
    if recipe.batch_size > 1:
        return "Take a smaller batch_size, shorter rows, or precision bf16."
    return "Take shorter rows (max_length), precision bf16 or nf4, or a smaller base."


def _smaller_command(recipe: Recipe) -> str:
    if recipe.batch_size > 1:
        return f"ollama-ft train --set batch_size={recipe.batch_size // 2}"
    return "ollama-ft train --set precision=bf16"
