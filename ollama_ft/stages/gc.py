"""Room: which weights nobody needs any more, and letting go of them.

Reads:  families, versions, adapters, bases, runs, promotions, intents, publications, tags, origins
Writes: removals

Kept are, in each family, the bare base, the live version and the one before it, versions with a
tag, versions in a move that is not finished, and the newest few. Of the others the weights may go:
the GGUF adapter, the PEFT folder, and the name at the home's own store. Their rows stay, and so do
data, recipe, proof and evaluation: such a version can still be looked at, and trained again.

A removal's row is written first, so that nothing can be missing without a row that says why.
"""

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.catalog import append, every, newest, row
from ollama_ft.core.files import artefact
from ollama_ft.core.home import Home
from ollama_ft.core.records import (
    Adapter,
    Base,
    Family,
    Intent,
    Origin,
    Promotion,
    Publication,
    Removal,
    Run,
    Version,
)
from ollama_ft.core.refs import live, tags, way_back
from ollama_ft.core.sqlite import Database
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Store

NEWEST = 3  # versions of a family that are kept whatever they are
YOUNG = 3600.0  # seconds in which a blob may still wait for the manifest that names it


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that may go."""

    kind: str  # "adapter" | "blob"
    what: str  # "support:v2", or what a blob is
    digest: str
    size: int  # bytes that become free
    paths: tuple[Path, ...]
    loss: str = ""  # what cannot be done afterwards
    version: Version | None = None
    elsewhere: tuple[str, ...] = ()  # runtimes that may hold the version still


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A version that stays, and why."""

    version: Version
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would go and what stays."""

    items: tuple[Item, ...]
    kept: tuple[Kept, ...]

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(item.size for item in self.items)


def plan(db: Database, home: Home, newest_kept: int = NEWEST) -> Plan:
    """Look at every family; nothing is changed."""
    kept = [
        Kept(version=version, why=", ".join(reasons))
        for family in every(db, Family)
        for version, reasons in _reasons(db, family, newest_kept)
        if reasons
    ]
    staying = {k.version.key for k in kept}
    needed = {digest for k in kept for digest in _weights(db, k.version)}
    going = [v for v in every(db, Version) if v.key not in staying]
    items = [item for version in going if (item := _version_item(db, home, version, needed))]
    freed = {item.what for item in items}
    return Plan(items=(*items, *_blob_items(db, home, freed)), kept=tuple(kept))


def remove(db: Database, home: Home, items: Sequence[Item], reason: str) -> list[Removal]:
    """Let go of `items`; return the rows. Asked again after a crash, it goes on."""
    store = Store(home.models)
    rows = []
    for item in items:
        rows.append(
            append(
                db,
                Removal(
                    digest=item.digest,
                    kind=item.kind,
                    version=item.version.key if item.version else None,
                    size=item.size,
                    reason=reason,
                ),
            )
        )
        if item.version and store.find(name := Name.parse(item.version.tag)):
            store.delete_manifest(name)
        for path in item.paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return rows


def _reasons(db: Database, family: Family, count: int) -> Iterator[tuple[Version, list[str]]]:
    versions = every(db, Version, family=family.name)  # newest first
    current = live(db, family.name)
    before = current.promotion.parent if current else None
    previous = row(db, Promotion, before).version if before else None
    ended = {promotion.intent for promotion in every(db, Promotion, family=family.name)}
    moving = {i.version for i in every(db, Intent, family=family.name) if i.id not in ended}
    for place, version in enumerate(versions):
        words = tags(db, version)
        reasons = {
            "the bare base": version.run is None,
            "live": bool(current and current.version.id == version.id),
            "previous": version.id == previous,
            f"tagged {' '.join(words)}": bool(words),
            "a move is not finished": version.id in moving,
            f"one of the newest {count}": place < count,
        }
        yield version, [why for why, holds in reasons.items() if holds]


def _weights(db: Database, version: Version) -> tuple[str, ...]:
    """The digests of a version's adapter and run. Families that learned the same share them."""
    if version.adapter is None or version.run is None:
        return ()
    return row(db, Adapter, version.adapter).digest, row(db, Run, version.run).digest


def _version_item(
    db: Database, home: Home, version: Version, needed: Collection[str]
) -> Item | None:
    adapter, run = _weights(db, version)
    if adapter in needed:
        return None
    weights = [artefact(home.data("adapters"), adapter, ".gguf")]
    if run not in needed:
        weights.append(artefact(home.data("runs"), run, "") / "adapter")
    paths = tuple(path for path in weights if path.exists())
    if not paths:
        return None
    addresses = {p.address for p in every(db, Publication, version=version.key)}
    return Item(
        kind="adapter",
        what=version.tag,
        digest=adapter,
        size=sum(map(_size, paths)),
        paths=paths,
        loss=_loss(db, version),
        version=version,
        elsewhere=tuple(sorted(addresses - {"embedded"})),
    )


def _loss(db: Database, version: Version) -> str:
    """What the version can no longer be used for: a rollback may still lead to it."""
    current = live(db, version.family)
    at, steps = (current.promotion if current else None), 0
    while at is not None and at.version != version.id:
        at = row(db, Promotion, at.parent) if at.parent else None
        steps += 1
    back = f"no rollback to it ({steps} steps back); " if at is not None else ""
    if newest(db, Origin, version=version.key):
        return f"{back}no promotion of it unless it comes again: {way_back(db, version)}"
    return f"{back}no promotion of it unless it is trained again"


def _blob_items(db: Database, home: Home, freed: set[str]) -> Iterator[Item]:
    """Blobs of the home's store that no name needs once `freed` are gone, but no pinned base."""
    store = Store(home.models)
    unnamed = store.unreferenced()  # none while a manifest cannot be read
    models = store.list()
    staying = {d for m in models if m.name.short not in freed for d in m.manifest.digests}
    leaving = {d for m in models if m.name.short in freed for d in m.manifest.digests}
    pinned = {base.blob_digest for base in every(db, Base)}
    loose = {digest for digest, path in unnamed.items() if _age(path) > YOUNG}
    for digest in sorted((leaving - staying) | loose):
        path = store.blob_path(digest)
        if digest not in pinned and path.is_file():
            yield Item(
                kind="blob",
                what=f"{digest[:19]} in the store, which no name needs",
                digest=digest,
                size=path.stat().st_size,
                paths=(path,),
            )


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _age(path: Path) -> float:
    state = path.stat()
    return time.time() - max(state.st_mtime, state.st_ctime)  # a hard link renews only the ctime
