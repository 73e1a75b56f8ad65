"""The one writer of progress, on stderr: a bar on a terminal, plain lines, JSON lines, or nothing.

JSON: one object for each event, {"event": "step", "step": 12, "loss": 1.93, …}, the keys being the
fields of the event's class.
"""

import json
import re
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Self

import click

from ollama_ft.cli.tables import size
from ollama_ft.core.events import Count, Event, Note, Stage
from ollama_ft.kinds.trainers.job import Estimate, Step, Validation

PLAIN_EVERY = 10.0  # seconds between two plain lines about steps or counts


class Progress:
    """Call it with events. A context manager, so that a bar is always cleared away."""

    def __init__(self, mode: str) -> None:
        """`mode`: auto (a bar on a terminal, else plain lines), plain, json or none."""
        self.mode = mode if mode != "auto" else ("bar" if sys.stderr.isatty() else "plain")
        self._bar_open = False
        self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear()

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if self.mode == "none":
            return
        if self.mode == "json":
            click.echo(json.dumps(to_json(event), ensure_ascii=False), err=True)
            return
        moving = isinstance(event, Step | Count)
        text = describe(event)
        if moving and self.mode == "bar":
            self._draw(text)
        elif not moving or self._due(event):
            self._clear()
            click.echo(text, err=True)

    def _due(self, event: Event) -> bool:
        now = time.monotonic()
        last = isinstance(event, Step) and event.step == event.steps
        last = last or (isinstance(event, Count) and event.done == event.total)
        if last or now - self._told >= PLAIN_EVERY:
            self._told = now
            return True
        return False

    def _draw(self, text: str) -> None:
        click.echo(f"\r\x1b[2K{text}", err=True, nl=False)
        self._bar_open = True

    def _clear(self) -> None:
        if self._bar_open:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._bar_open = False


def to_json(event: Event) -> dict[str, object]:
    """The event as the JSON line that tells it."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    return {"event": name} | asdict(event)


def describe(event: Event) -> str:
    """The event as one line of text."""
    match event:
        case Stage():
            return f"{event.name:<9} {event.text}"
        case Step():
            return (
                f"{bar(event.step, event.steps)} step {event.step}/{event.steps}  "
                f"loss {event.loss:.3f}  {event.tokens_per_second:.0f} tokens/s  "
                f"{size(event.rss_bytes)}  {_time(event.eta_seconds)} left"
            )
        case Validation():
            best = "  best so far" if event.best else ""
            return f"          step {event.step}: validation loss {event.loss:.4f}{best}"
        case Estimate():
            return (
                f"          will take about {_time(event.seconds)}, {size(event.peak_bytes)} of "
                f"memory, {size(event.disk_bytes)} of disk ({event.choice.dtype}, "
                f"{event.choice.threads} threads)"
            )
        case Count():
            return _count(event)
        case Note():
            return f"          {event.text}"
        case _:
            return f"          {to_json(event)}"


def _count(event: Count) -> str:
    if event.unit == "B":
        amount = f"{size(event.done)}/{size(event.total)}"
    else:
        amount = f"{event.done}/{event.total} {event.unit}"
    left = "" if event.eta_seconds is None else f"  {_time(event.eta_seconds)} left"
    return f"{bar(event.done, event.total)} {event.name}  {amount}{left}"


def bar(done: int, total: int, width: int = 24) -> str:
    """A bar of `width` cells: "███████░░░"."""
    filled = width * done // total if total else 0
    return "          " + "█" * filled + "░" * (width - filled)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
