"""Memory that a runtime and a training share: what lies there, letting it go, bringing it back.

Ollama keeps a model for five minutes after its last answer, and a training beside it may find no
room. So what is loaded is shown before, somebody who may say so lets it go, the training begins
when it is gone, and afterwards each model comes back for as long as it had left.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from ollama_ft.core.errors import FtError, OutOfResources, RuntimeRefused
from ollama_ft.core.events import Emit, Note
from ollama_ft.runtime.answers import Loaded
from ollama_ft.runtime.client import Ollama

PATIENCE = 60.0  # seconds in which a model must be gone; Ollama waits for answers under way
LOOK_EVERY = 0.25  # seconds
_FOR_EVER = 10 * 365 * 86400.0  # seconds; Ollama writes "never" as a time in some centuries

MayUnload = Callable[[Sequence[Loaded]], bool]


def leave_all(models: Sequence[Loaded]) -> bool:
    """Nobody is asked, and nothing is unloaded."""
    return False


def in_the_way(client: Ollama, device: str) -> list[Loaded]:
    """The models that lie where a training on `device` ("cpu", "cuda", "mps") computes.

    None for a runtime on another machine, and none where the runtime does not tell.
    """
    if not client.address.is_loopback:
        return []
    try:
        return [model for model in client.ps() if _bytes_on(model, device)]
    except RuntimeRefused:
        return []


def told(models: Sequence[Loaded]) -> str:
    """What is loaded, in one line: "qwen3:0.6b 0.9 GB, smollm2:135m 0.2 GB (GPU)"."""
    return ", ".join(
        f"{m.name} {m.size / 1e9:.1f} GB{' (GPU)' if 2 * m.size_vram > m.size else ''}"
        for m in models
    )


@contextmanager
def room(
    client: Ollama, device: str, guests: Sequence[Loaded], may_unload: MayUnload, emit: Emit
) -> Iterator[None]:
    """While it lasts, the runtime leaves the memory of `device` to us.

    `guests` were loaded before we asked the runtime anything: they go only if `may_unload` agrees,
    and come back at the end, however it ends. What we loaded ourselves goes without a question.
    Raises OutOfResources if a model stays; nothing is computed then.
    """
    names = {guest.name for guest in guests}
    unload(client, [m for m in in_the_way(client, device) if m.name not in names])
    there = [m for m in in_the_way(client, device) if m.name in names]
    if not there or not may_unload(there):
        if there:
            emit(Note(text=f"stays in memory at the runtime: {told(there)} (--unload frees it)"))
        yield
        return
    emit(Note(text=f"unloading for the training: {told(there)}"))
    try:
        unload(client, there)
        yield
    finally:
        _bring_back(client, there, emit)


def unload(client: Ollama, models: Sequence[Loaded], patience: float = PATIENCE) -> None:
    """Let the models go, and wait until the runtime has them no more; `patience` in seconds.

    Raises OutOfResources, naming those that stay.
    """
    for model in models:
        client.unload(model.name)
    names, until = {model.name for model in models}, time.monotonic() + patience
    while names and (left := names & {model.name for model in client.ps()}):
        if time.monotonic() > until:
            raise OutOfResources(
                f"{', '.join(sorted(left))} stays in memory at {client.address}; somebody may be "
                "talking to it.",
                mend=f"ollama stop {min(left)}",
            )
        time.sleep(LOOK_EVERY)


def seconds_left(model: Loaded, now: datetime) -> int | None:
    """How long the runtime would keep the model from `now` on; -1: for ever, None: as it likes."""
    text = re.sub(r"(\.\d{6})\d*", r"\1", model.expires_at)  # Go writes nine digits
    try:
        left = (datetime.fromisoformat(text) - now).total_seconds()
    except (ValueError, TypeError):
        return None
    if left > _FOR_EVER:
        return -1
    return round(left) if left >= 1 else None


def _bytes_on(model: Loaded, device: str) -> int:
    on = {"cpu": model.size - model.size_vram, "cuda": model.size_vram}
    return on.get(device, model.size)  # mps: one memory for both


def _bring_back(client: Ollama, models: Sequence[Loaded], emit: Emit) -> None:
    """Load what was there, the newest last. What cannot come back is told, and is no error."""
    for model in reversed(models):
        try:
            client.load(
                model.name,
                keep_alive=seconds_left(model, datetime.now(UTC)),
                context=model.context_length,
            )
            emit(Note(text=f"back in memory at the runtime: {model.name}"))
        except FtError as error:
            emit(Note(text=f"{model.name} did not come back into memory: {error}"))
