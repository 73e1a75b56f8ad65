"""The rules one after the other, with counts in and out and a few examples of each."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from ollama_ft.kinds.harvest.candidate import (
    CORRECTED,
    DOWN,
    Candidate,
    Conflict,
    Left,
    Rule,
    Settings,
)
from ollama_ft.kinds.harvest.personal import redact_one

SHOWN = 3  # examples that are kept of what a rule left out


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one rule did."""

    rule: str
    came: int
    stayed: int
    changed: int
    examples: tuple[Left, ...]


@dataclass(frozen=True, kw_only=True)
class Negative:
    """An answer that should not have been given, and the right one if somebody wrote it."""

    exchange: str
    prompt: tuple[tuple[str, str], ...]  # (role, text)
    rejected: str
    chosen: str  # "" if nobody corrected it


@dataclass(frozen=True, kw_only=True)
class Sifted:
    """What is worth learning, what must not be, and how it was found out."""

    kept: tuple[Candidate, ...]
    negatives: tuple[Negative, ...]
    steps: tuple[Step, ...]
    conflicts: tuple[Conflict, ...]


def sift(candidates: Sequence[Candidate], rules: Mapping[str, Rule], settings: Settings) -> Sifted:
    """Ask every rule in turn about what the one before it kept."""
    kept = candidates
    steps: list[Step] = []
    conflicts: list[Conflict] = []
    for name, rule in rules.items():
        found = rule(kept, settings)
        steps.append(
            Step(
                rule=name,
                came=len(kept),
                stayed=len(found.kept),
                changed=found.changed,
                examples=tuple(found.left[:SHOWN]),
            )
        )
        conflicts += found.conflicts
        kept = found.kept
    return Sifted(
        kept=tuple(kept),
        negatives=_negatives(candidates, {one.taught_key for one in kept}),
        steps=tuple(steps),
        conflicts=tuple(conflicts),
    )


def _negatives(
    candidates: Sequence[Candidate], learned: Container[tuple[bytes, bytes]]
) -> tuple[Negative, ...]:
    """Whole answers that were rated down or corrected, with placeholders for what is personal.

    What is `learned`, since somebody liked it later, is no answer to keep away from.
    """
    found = []
    for one in candidates:
        if one.trouble or one.tier not in (DOWN, CORRECTED) or not one.said.strip():
            continue
        clean = redact_one(one)
        chosen = clean.row.answer if one.tier == CORRECTED else ""
        if chosen != clean.said and clean.said_key not in learned:
            prompt = tuple((m.role, m.content) for m in clean.row.prompt)
            found.append(
                Negative(exchange=one.uid, prompt=prompt, rejected=clean.said, chosen=chosen)
            )
    return tuple(found)
