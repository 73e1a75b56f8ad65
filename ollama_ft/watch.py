"""Watching what is live: drift, decay and the way back, when to train, the shadow, the canary.

As in loop.py, stages are put one behind the other here; what needs no runtime asks for none.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ollama_ft import loop
from ollama_ft.core.catalog import newest, row
from ollama_ft.core.errors import Conflict, FtError, RuntimeUnavailable
from ollama_ft.core.events import Count, Emit, Note
from ollama_ft.core.home import Home
from ollama_ft.core.records import Dataset, Family, Promotion, Run, Version
from ollama_ft.core.refs import Live, live
from ollama_ft.core.shelf_records import Embedder
from ollama_ft.core.sqlite import Database
from ollama_ft.core.watch_records import Canary, Check, Drift, Shadow
from ollama_ft.kinds.decay import Decay, due
from ollama_ft.kinds.drift import lexical_vectors
from ollama_ft.stages import canary as canaries
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import decay as checking
from ollama_ft.stages import drift as drifting
from ollama_ft.stages import publish as publishing
from ollama_ft.stages import shadow as shadowing
from ollama_ft.workshop import Workshop

if TYPE_CHECKING:
    from ollama_ft.runtime.client import Ollama
    from ollama_ft.stages.drift import Vectors

BEFORE = timedelta(days=90)  # how long before the time looked at the log is compared with
_BATCH = 32  # texts that are embedded at once

Open = Callable[[], AbstractContextManager[Workshop]]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a check saw and did. `back` is the rollback, if there was one."""

    row: Check
    live: Live
    found: dict[str, Decay]
    examples: list[dict[str, object]]
    kept: str  # why decay was only told; "" if it was followed by a rollback, or none was found
    back: Promotion | None = None


def drift(
    db: Database,
    home: Home,
    log: Database,
    family: Family,
    since: str,
    *,
    client: "Ollama | None",
    emit: Emit,
) -> tuple[Drift, list[drifting.Asked]]:
    """Compare what is asked since an ISO time with what was asked before, and with the training.

    With a client and an embedding model (`knowledge add` brings one) questions are compared by
    their meaning, else by their letters; the row says which. With it come the questions that are
    most unlike what was asked before.

    Raises NotEnoughData.
    """
    now = datetime.now(UTC)
    earliest = (datetime.fromisoformat(since) - BEFORE).isoformat(timespec="seconds")
    until = (now + timedelta(seconds=1)).isoformat(timespec="seconds")
    recent = drifting.sample(log, family.name, since, until)
    former = drifting.sample(log, family.name, earliest, since)
    current = live(db, family.name)
    trained = _trained(db, home, current.version if current else None, emit)
    vectors, by = _vectors(db, client, emit)
    found, examples = drifting.compare(recent, former, trained, vectors)
    key = current.version.key if current else None
    made = drifting.record(db, family.name, key, recent, former, found, examples, by=by)
    return made, examples


def check(
    db: Database,
    home: Home,
    log: Database,
    family: Family,
    open_shop: Open,
    *,
    now: datetime,
    only_tell: bool = False,
) -> Looked:
    """Say whether the live version has decayed; within its probation, go back first.

    A rollback is made at most once for a promotion, never within the cool-down after another one,
    and never off a version that was itself rolled back to: so it cannot loop. `open_shop` is
    called only for a rollback.

    Raises Conflict if nothing is live, and what a rollback raises; then the row says "told".
    """
    current = live(db, family.name)
    if current is None:
        raise Conflict(f"{family.name} has no live version.", mend=f"ollama-ft new {family.name}")
    found = checking.look(db, log, current, now)
    examples = checking.examples(log, current)
    back, kept = None, ""
    action = "none"
    if checking.verdict(found) == "decayed":
        action = "told"
        kept = "asked to tell only" if only_tell else checking.may_roll_back(db, current, now)
        if not kept:
            back = _back(home, db, family, current, found, open_shop)
            action = "rolled back"
    made = checking.record(db, current, found, action)
    return Looked(row=made, live=current, found=found, examples=examples, kept=kept, back=back)


def when_due(
    db: Database, log: Database, family: Family, now: datetime, *, rows: int, days: float
) -> tuple[str, int]:
    """Why the family should be trained again now ("" if it need not be), and how many rows are new.

    New are the answered exchanges since its last training, or all if there was none.
    """
    run = newest(db, Run, family=family.name)
    since = run.at if run else ""
    (new,) = log.execute(
        "select count(*) from exchanges where at > ? and family = ? and status = 'complete'",
        [since, family.name],
    ).fetchone()
    began = datetime.fromisoformat(run.at if run else family.at)
    last = newest(db, Check, family=family.name)
    decayed = last is not None and last.verdict == "decayed" and last.at >= since
    gone = (now - began) / timedelta(days=1)
    return due(new, gone, decayed, rows=rows, every_days=days), new


def shadow(
    shop: Workshop, log: Database, candidate: Version, since: str, *, most: int
) -> tuple[Shadow, list[shadowing.Pair]]:
    """Ask the live version, then the candidate, what people asked since an ISO time.

    Raises Conflict if nothing is live or the candidate is, NotEnoughData if nothing was asked.
    """
    current = live(shop.db, candidate.family)
    if current is None or current.version.key == candidate.key:
        raise Conflict(
            f"{candidate.tag} is live: there is nothing to hold it against."
            if current
            else f"{candidate.family} has no live version.",
            mend="name another version: ollama-ft shadow v3",
        )
    asked = shadowing.choose(log, candidate.family, since, most)
    for version in (current.version, candidate):
        publishing.bring(shop.db, shop.home, shop.client, version)
    pairs = shadowing.replay(shop.client, current.version, candidate, asked, shop.emit)
    return shadowing.record(shop.db, shop.home, current.version, candidate, pairs), pairs


def listen(shop: Workshop, version: Version) -> tuple[Canary, canaries.Heard | None]:
    """Ask a version its canary's prompts again; None if the canary was planted only now."""
    place = canaries.place(shop.client)
    known = canaries.planted(shop.db, version, place)
    if known is None:
        v0 = newest(shop.db, Version, family=version.family, number=0)
        assert v0 is not None, "a family has its bare base"
        return loop.keep_canary(shop, version, v0), None
    publishing.bring(shop.db, shop.home, shop.client, version)
    return known, canaries.replay(shop.home, shop.client, version, known, place)


def _back(
    home: Home,
    db: Database,
    family: Family,
    current: Live,
    found: dict[str, Decay],
    open_shop: Open,
) -> Promotion:
    decayed = [decay for decay in found.values() if decay.verdict == "decayed"]
    worst = max(decayed, key=lambda decay: decay.drop)
    reason = (
        f"decay: {worst.before.share:.0%} of {worst.before.of} before, "
        f"{worst.now.share:.0%} of {worst.now.of} now"
    )
    try:
        with home.lock(family.name), open_shop() as shop:
            _still(db, current)
            return loop.rollback(shop, family, None, reason)
    except FtError:
        checking.record(db, current, found, "told")
        raise


def _still(db: Database, current: Live) -> None:
    """Raise Conflict if another version went live since it was looked at."""
    now = live(db, current.version.family)
    if now is None or now.promotion.key != current.promotion.key:
        raise Conflict(
            f"{current.version.tag} is no longer live: somebody moved the pointer meanwhile.",
            mend="ollama-ft check",
        )


def _trained(db: Database, home: Home, version: Version | None, emit: Emit) -> drifting.Trained:
    if version is None or version.dataset is None:
        return drifting.Trained()
    try:
        rows = datasets.load(home, row(db, Dataset, version.dataset))
    except FtError as error:
        emit(Note(text=f"not compared with the training: {error}"))
        return drifting.Trained()
    return drifting.Trained(
        questions=tuple(r.question for r in rows if r.split == "train"),
        held_out=tuple(r.question for r in rows if r.split != "train"),
    )


def _vectors(db: Database, client: "Ollama | None", emit: Emit) -> tuple["Vectors", str]:
    """How texts become vectors, and by what: the embedding model, or their letters without one."""
    embedder = newest(db, Embedder)
    lexical = "letters alone (no embedding model is at hand)"
    if embedder is None or client is None:
        emit(Note(text=f"questions are compared by their {lexical}"))
        return lexical_vectors, lexical
    try:
        client.embed(embedder.name, ["?"])
    except RuntimeUnavailable as error:
        emit(Note(text=f"questions are compared by their {lexical}: {error}"))
        return lexical_vectors, lexical
    return _embedded(client, embedder, emit), embedder.name


def _embedded(client: "Ollama", embedder: Embedder, emit: Emit) -> "Vectors":
    import numpy as np

    from ollama_ft.kinds.embedding import vectors

    def embed(texts: Sequence[str]) -> "drifting.Array":
        made = np.zeros((len(texts), embedder.dimensions), np.float32)
        for at in range(0, len(texts), _BATCH):
            batch = vectors(client, embedder.name, embedder.dimensions, texts[at : at + _BATCH])
            made[at : at + len(batch)] = [np.frombuffer(data, "<f2") for data in batch]
            emit(Count(name="embedding", done=at + len(batch), total=len(texts), unit="questions"))
        made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-6)
        return made

    return embed


def figures(found: Drift | Check | Shadow | Canary) -> dict[str, object]:
    """The figures of a row."""
    read: dict[str, object] = json.loads(found.figures_json)
    return read
