"""Whether everything is in order here, and the command that mends what is not.

Reads:  bases, adapters, intents, removals
Writes: nothing
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ollama_ft.core.catalog import every
from ollama_ft.core.files import artefact, digest_file
from ollama_ft.core.home import Home
from ollama_ft.core.records import Adapter, Base, Intent, Promotion, Removal
from ollama_ft.core.sqlite import Database
from ollama_ft.runtime.store import Store

ROOM = 2 << 30  # bytes of free disk below which a warning is given
EXTRAS = {
    "train": ("torch", "transformers", "peft", "gguf"),
    "embedded": ("xllamacpp", "starlette", "uvicorn"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str
    mend: str = ""


def examine(db: Database, home: Home) -> Iterator[Finding]:
    """Look at the machine, the home, the catalog and the store; nothing is changed."""
    yield _python()
    yield from _extras()
    yield _disk(home.path)
    yield _writable(home.path)
    yield _catalog(db)
    yield _intents(db)
    yield from _bases(db, home)
    yield from _adapters(db, home)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(name="python", ok=True, text=f"{version}, {os.cpu_count()} cores")


def _extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        yield Finding(
            name=f"[{extra}]",
            ok=not missing,
            text="installed" if not missing else f"without {', '.join(missing)}",
            mend=f"pip install 'ollama-ft[{extra}]'" if missing else "",
        )


def _disk(path: Path) -> Finding:
    standing = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(standing).free
    text = f"{free / 1e9:.1f} GB free at {path}"
    return Finding(name="disk", ok=free > ROOM, text=text, mend="" if free > ROOM else "make room")


def _writable(path: Path) -> Finding:
    standing = next(p for p in (path, *path.parents) if p.exists())
    ok = os.access(standing, os.W_OK)
    mend = "" if ok else "choose another: ollama-ft --home DIR …"
    return Finding(name="home", ok=ok, text=f"{path}", mend=mend)


def _catalog(db: Database) -> Finding:
    said = next(iter(db.query("pragma integrity_check")))["integrity_check"]
    loose = len(list(db.query("pragma foreign_key_check")))
    ok = said == "ok" and not loose
    text = "whole" if ok else f"{said}; {loose} rows without a parent"
    return Finding(name="catalog", ok=ok, text=text, mend="" if ok else "restore a copy of it")


def _intents(db: Database) -> Finding:
    ended = {promotion.intent for promotion in every(db, Promotion)}
    open_ones = [i for i in every(db, Intent) if i.id not in ended]
    if not open_ones:
        return Finding(name="live pointers", ok=True, text="every move is finished")
    names = ", ".join(sorted({i.family for i in open_ones}))
    return Finding(
        name="live pointers",
        ok=False,
        text=f"a move was interrupted: {names}",
        mend="any command that uses the runtime finishes it: ollama-ft eval",
    )


def _bases(db: Database, home: Home) -> Iterator[Finding]:
    store = Store(home.models)
    for blob, base in {b.blob_digest: b for b in every(db, Base)}.items():
        yield _artefact(
            f"base {base.name}", store.blob_path(blob), blob, f"ollama-ft base pull {base.name}"
        )


def _adapters(db: Database, home: Home) -> Iterator[Finding]:
    folder = home.data("adapters")
    let_go = {removal.digest for removal in every(db, Removal)}
    wrong = [
        a.digest
        for a in every(db, Adapter)
        if a.digest not in let_go and not _is_whole(artefact(folder, a.digest, ".gguf"), a.digest)
    ]
    if wrong:
        text = f"{len(wrong)} missing or changed: {wrong[0]}"
        yield Finding(name="adapters", ok=False, text=text, mend="ollama-ft train")
    else:
        yield Finding(name="adapters", ok=True, text="all there, digests right")


def _artefact(name: str, path: Path, digest: str, mend: str) -> Finding:
    if not path.exists():
        return Finding(name=name, ok=False, text=f"{digest} is missing from the store", mend=mend)
    if not _is_whole(path, digest):
        return Finding(name=name, ok=False, text=f"{digest} is damaged", mend=mend)
    return Finding(name=name, ok=True, text="there, digest right")


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and digest_file(path) == digest
