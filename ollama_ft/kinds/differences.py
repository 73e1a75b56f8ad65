"""What is in one list of rows and not in another: `data diff`."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from ollama_ft.core.conversation import Conversation

SHOWN = 20  # rows of each kind that are kept to be shown; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question that is answered in two ways."""

    question: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the second of two lists differs from the first. Rows are the same if they ask the same
    in the same context (Conversation.prompt_key); of several that do, the last one counts."""

    same: int
    added: int
    removed: int
    answered: int  # with another answer
    moved: int  # with the same answer, in another split
    changed: int  # in anything else: wording, accepted texts, passages, tags …
    first_added: tuple[str, ...]  # questions, SHOWN at most
    first_removed: tuple[str, ...]
    first_answered: tuple[Answered, ...]
    first_moved: tuple[str, ...]  # "question: train → test"
    first_changed: tuple[str, ...]  # "question: wording, passages"


def differ(before: Iterable[Conversation], after: Iterable[Conversation]) -> Difference:
    """Compare two lists of rows, whatever their order. Memory holds both."""
    old = {row.prompt_key: row for row in before}
    new = {row.prompt_key: row for row in after}
    common = [(old[key], row) for key, row in new.items() if key in old]
    answered = [(a, b) for a, b in common if a.answer_key != b.answer_key]
    alike = [(a, b) for a, b in common if a.answer_key == b.answer_key]
    moved = [
        f"{a.question}: {a.split or 'undecided'} → {b.split or 'undecided'}"
        for a, b in alike
        if a.split != b.split
    ]
    changed = [
        f"{a.question}: {', '.join(_changes(a, b))}"
        for a, b in alike
        if a.split == b.split and a != b
    ]
    added = [row.question for key, row in new.items() if key not in old]
    removed = [row.question for key, row in old.items() if key not in new]
    return Difference(
        same=len(alike) - len(moved) - len(changed),
        added=len(added),
        removed=len(removed),
        answered=len(answered),
        moved=len(moved),
        changed=len(changed),
        first_added=tuple(added[:SHOWN]),
        first_removed=tuple(removed[:SHOWN]),
        first_answered=tuple(
            Answered(question=a.question, before=a.answer, after=b.answer)
            for a, b in answered[:SHOWN]
        ),
        first_moved=tuple(moved[:SHOWN]),
        first_changed=tuple(changed[:SHOWN]),
    )


def _changes(before: Conversation, after: Conversation) -> list[str]:
    names = {"messages": "wording"}
    return [
        names.get(field.name, field.name)
        for field in fields(Conversation)
        if field.compare and getattr(before, field.name) != getattr(after, field.name)
    ]
