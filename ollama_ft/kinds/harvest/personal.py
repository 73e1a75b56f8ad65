"""Personal data again: what was logged with --no-redact, imported, or found only by newer rules."""

from collections.abc import Sequence
from dataclasses import replace

from ollama_ft.kinds.harvest.candidate import Candidate, Settings, Sieved
from ollama_ft.kinds.personal import Memory, redact


def redacted(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Every row with placeholders for what is personal; none is left out."""
    kept = [redact_one(one) for one in candidates]
    changed = sum(new is not old for new, old in zip(kept, candidates, strict=True))
    return Sieved(kept=kept, changed=changed)


def redact_one(one: Candidate) -> Candidate:
    """The candidate with placeholders, the same object if there is nothing to hide."""
    memory = Memory()
    messages = tuple(replace(m, content=redact(m.content, memory)) for m in one.row.messages)
    said = redact(one.said, memory)
    passages = tuple(redact(passage, memory) for passage in one.passages)
    clean = replace(one, row=replace(one.row, messages=messages), said=said, passages=passages)
    return one if clean == one else clean
