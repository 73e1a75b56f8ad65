"""One question, one answer: duplicates, near duplicates, and answers that contradict each other.

The best tier wins, within a tier the newest. What loses to another answer is told as a conflict,
since that is what a person should look at.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ollama_ft.core.conversation import Conversation
from ollama_ft.kinds.harvest.candidate import (
    CORRECTED,
    Candidate,
    Conflict,
    Left,
    Settings,
    Sieved,
)
from ollama_ft.kinds.splits import group_rows


def new_to_it(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """What the family's own files answer stands, unless somebody corrected the model since."""
    kept: list[Candidate] = []
    left: list[Left] = []
    conflicts: list[Conflict] = []
    for one in candidates:
        taught = settings.taught.get(one.row.prompt_key)
        if taught is None:
            kept.append(one)
        elif taught.answer_key == one.row.answer_key:
            left.append(Left(candidate=one, why="in the family's files"))
        elif one.tier == CORRECTED:
            kept.append(one)
            conflicts.append(_conflict(one.row, taught, one.uid))
        else:
            left.append(Left(candidate=one, why="the family's files answer it"))
    return Sieved(kept=kept, left=left, conflicts=conflicts)


def once(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Of the same question in the same conversation, the best answer."""
    groups: defaultdict[bytes, list[Candidate]] = defaultdict(list)
    for one in candidates:
        groups[one.row.prompt_key].append(one)
    return _best(groups.values(), "the same question")


def once_nearly(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Of nearly the same question with nearly the same answer, the best.

    What somebody wrote stays unless the answer is the very same: "shelf A" and "shelf B" are near.
    Near questions with other answers both stay ("the capital of Mali", "… of Malta"), and are told
    as a conflict if somebody corrected one of them.
    """
    found = group_rows([one.row for one in candidates])
    keys = [(head, one.row.answer_key) for one, head in zip(candidates, found.first, strict=True)]
    written = {key for key, one in zip(keys, candidates, strict=True) if one.tier == CORRECTED}
    groups: defaultdict[tuple[int, bytes], list[Candidate]] = defaultdict(list)
    for key, one in zip(keys, candidates, strict=True):
        groups[key if key in written else (key[0], b"")].append(one)
    result = _best(groups.values(), "nearly the same question")
    kept = {one.uid for one in result.kept}
    told = []
    for a, b in found.similar:
        first, second = sorted((candidates[a], candidates[b]), key=lambda c: c.rank, reverse=True)
        if first.tier == CORRECTED and {first.uid, second.uid} <= kept:
            told.append(_conflict(first.row, second.row, first.uid, second.uid))
    return Sieved(kept=result.kept, left=result.left, conflicts=[*result.conflicts, *told])


def _best(groups: Iterable[Sequence[Candidate]], why: str) -> Sieved:
    kept: list[Candidate] = []
    left: list[Left] = []
    conflicts: list[Conflict] = []
    for members in groups:
        best = max(members, key=lambda one: one.rank)
        kept.append(best)
        told = {best.row.answer_key}
        for other in members:
            if other is best:
                continue
            left.append(Left(candidate=other, why=f"{why} as in {best.uid}"))
            if other.row.answer_key not in told and _said_by_people(other):
                told.add(other.row.answer_key)
                conflicts.append(_conflict(best.row, other.row, best.uid, other.uid))
    return Sieved(kept=kept, left=left, conflicts=conflicts)


def _said_by_people(one: Candidate) -> bool:
    # That an answer of the model's lost to a better one is the rule, no conflict.
    return one.tier == CORRECTED


def _conflict(stands: Conversation, other: Conversation, *exchanges: str) -> Conflict:
    return Conflict(
        question=stands.question, stands=stands.answer, other=other.answer, exchanges=exchanges
    )
