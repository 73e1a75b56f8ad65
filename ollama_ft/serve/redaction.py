"""What is personal is taken out before anything is written, spool included."""

from collections.abc import Mapping
from dataclasses import replace

from ollama_ft.core.exchange import Entry, Rated, Turn
from ollama_ft.kinds.personal import Memory, redact


def clean(entry: Entry) -> Entry:
    """The entry with placeholders, [EMAIL_1] and the like, equal for equal things in it.

    The turns are read from the first, so a conversation that goes on has the same placeholders in
    each of its exchanges. A correction is read by itself.
    """
    if isinstance(entry, Rated):
        return clean_rating(entry)
    memory = Memory()
    turns = tuple(_turn(turn, memory) for turn in entry.turns)
    reply = _turn(entry.reply, memory) if entry.reply else None
    verdict_of = entry.verdict
    if verdict_of and verdict_of.correction:
        verdict_of = replace(verdict_of, correction=redact(verdict_of.correction, memory))
    cleaned = replace(
        entry,
        turns=turns,
        reply=reply,
        verdict=verdict_of,
        thinking=redact(entry.thinking, memory),
        client=redact(entry.client, memory),
        error=redact(entry.error, memory),
        options=_mapping(entry.options, memory),
        context=tuple(_mapping(row, memory) for row in entry.context),
    )
    return replace(cleaned, redacted=len(memory.names))


def clean_rating(rated: Rated) -> Rated:
    """The verdict with placeholders in its correction."""
    verdict = rated.verdict
    return replace(rated, verdict=replace(verdict, correction=redact(verdict.correction, Memory())))


def _turn(turn: Turn, memory: Memory) -> Turn:
    if not turn.extra:
        return replace(turn, content=redact(turn.content, memory))
    return replace(turn, content=redact(turn.content, memory), extra=_mapping(turn.extra, memory))


def _mapping(values: Mapping[str, object], memory: Memory) -> dict[str, object]:
    return {key: _value(value, memory) for key, value in values.items()}


def _value(value: object, memory: Memory) -> object:
    """Every text in a JSON value; digests and numbers stay."""
    if isinstance(value, str):
        return redact(value, memory)
    if isinstance(value, list):
        return [_value(item, memory) for item in value]
    if isinstance(value, Mapping):
        return {k: v if k == "sha256" else _value(v, memory) for k, v in value.items()}
    return value
