"""What a long command reports while it works: one tree of events, one writer on the other end."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something worth telling while a command works."""


@dataclass(frozen=True, kw_only=True)
class Stage(Event):
    """A stage begins: what it does, in a few words."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """A fact worth a line."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Count(Event):
    """Progress that can be counted: bytes moved, questions asked."""

    name: str
    done: int
    total: int
    unit: str  # "B" | "questions" | "rows"
    eta_seconds: float | None = None  # what is left, at the speed so far


Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """Report nothing."""
