"""Which version of a family is live: promote, rollback, and what a crash in between leaves.

Reads:  versions, proofs, promotions, intents
Writes: intents, promotions

The newest done promotion of a family names its live version, so the table is its own audit trail.
A row's `parent` is the promotion that a rollback returns to; rollbacks therefore walk back like a
stack and never undo each other:

    v1 --promote--> v2 --promote--> v3 --rollback--> v2 --rollback--> v1

A move is three steps: the intent is written, the runtime's tag is moved, the outcome is written.
Whatever step a crash comes after, an intent without an outcome remains, and `mend` moves the tag
again (which is harmless) and writes the outcome.
"""

from collections.abc import Callable
from contextlib import suppress

from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.errors import Conflict, FtError, NothingToRollBack, ProofFailed
from ollama_ft.core.records import Family, Intent, Promotion, Proof, Version
from ollama_ft.core.refs import live
from ollama_ft.core.sqlite import Database

Point = Callable[[Version], str]  # moves `family:latest` to the version; returns its digest there


def promote(db: Database, version: Version, point: Point, reason: str) -> Promotion:
    """Make `version` the live one, and return the row that says so.

    Promoting what is live already changes nothing and returns the row that made it so.

    Raises ProofFailed if a trained version has no passing proof, and whatever `point` raises. Then
    the pointer stands where it stood (the tag is put back, if the runtime allows it), and the
    journal says that the move was abandoned.
    """
    check_proof(db, version)
    current = live(db, version.family)
    if current and current.version.id == version.id:
        point(version)
        return current.promotion
    parent = current.promotion.id if current else None
    return _move(db, _intent(version, "promote", parent, reason), point)


def rollback(db: Database, family: Family, point: Point, reason: str, steps: int = 1) -> Promotion:
    """Return to the version that was live `steps` promotions ago; return the row.

    Raises NothingToRollBack if there is none, and whatever `point` raises, as promote does.
    """
    target = rollback_target(db, family, steps)
    version = row(db, Version, target.version)
    # The target's parent is copied too: the next rollback goes further back, not here again.
    return _move(db, _intent(version, "rollback", target.parent, reason), point)


def rollback_target(db: Database, family: Family, steps: int = 1) -> Promotion:
    """The promotion that a rollback of `steps` returns to. Raises NothingToRollBack."""
    current = live(db, family.name)
    target = current.promotion if current else None
    for _ in range(steps):
        if target is None or target.parent is None:
            raise NothingToRollBack(
                f"{family.name} has no earlier live version to return to.", mend="ollama-ft history"
            )
        target = row(db, Promotion, target.parent)
    assert target is not None, "the loop ran at least once"
    return target


def steps_back(db: Database, family: Family, target: Version | None) -> int:
    """How many promotions ago `target` was live: 0 if it is now. None is the one before.

    Raises Conflict if it was not live before what is live now.
    """
    if target is None:
        return 1
    current = live(db, family.name)
    steps, at = 0, current.promotion if current else None
    while at is not None and at.version != target.id:
        at = row(db, Promotion, at.parent) if at.parent else None
        steps += 1
    if at is None:
        raise Conflict(
            f"{target.tag} was not live before what is live now.",
            mend=f"ollama-ft promote {target.tag}",
        )
    return steps


def check_proof(db: Database, version: Version) -> None:
    """Raise ProofFailed unless the version may go live: v0 always may, others need their proof."""
    if version.run is None:
        return
    proof = newest(db, Proof, version=version.key)
    if proof is None or not proof.passed:
        what = "has no proof" if proof is None else "failed its proof"
        raise ProofFailed(
            f"{version.tag} {what}: nobody has checked that what is served is what was trained.",
            mend=f"ollama-ft show {version.tag} --proof",
        )


def pending(db: Database) -> list[Intent]:
    """Intents whose outcome was never written, oldest first: what a crash left."""
    ended = {promotion.intent for promotion in every(db, Promotion)}
    return [intent for intent in reversed(every(db, Intent)) if intent.id not in ended]


def mend(db: Database, intent: Intent, point: Point) -> Promotion | None:
    """Finish a move that a crash interrupted; return the row, None if it has ended meanwhile.

    The family's lock must be held: an intent without an outcome may also be a move under way.
    """
    if newest(db, Promotion, intent=intent.key):
        return None
    return _finish(db, intent, point)


def _intent(version: Version, action: str, parent: int | None, reason: str) -> Intent:
    return Intent(
        family=version.family, version=version.key, action=action, parent=parent, reason=reason
    )


def _move(db: Database, intent: Intent, point: Point) -> Promotion:
    return _finish(db, append(db, intent), point)


def _finish(db: Database, intent: Intent, point: Point) -> Promotion:
    def outcome(word: str, digest: str) -> Promotion:
        return append(
            db,
            Promotion(
                intent=intent.key,
                family=intent.family,
                version=intent.version,
                action=intent.action,
                parent=intent.parent,
                reason=intent.reason,
                outcome=word,
                digest=digest,
            ),
        )

    try:
        digest = point(row(db, Version, intent.version))
    except FtError:
        _put_back(db, intent.family, point)
        outcome("abandoned", "")
        raise
    return outcome("done", digest)


def _put_back(db: Database, family: str, point: Point) -> None:
    """Point at what is live again: the tag may have moved before the runtime said no."""
    if current := live(db, family):
        with suppress(FtError):
            point(current.version)
