"""Whether everything is in order here, and the command that mends what is not.

Reads:  bases, adapters, intents, removals, families, versions, promotions, publications, origins
Writes: nothing
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core import refs
from ollama_ft.core.catalog import every, newest, row
from ollama_ft.core.errors import RuntimeUnavailable
from ollama_ft.core.files import artefact, digest_file
from ollama_ft.core.home import Home
from ollama_ft.core.records import (
    Adapter,
    Base,
    Family,
    Intent,
    Promotion,
    Publication,
    Removal,
    Version,
)
from ollama_ft.core.refs import way_back
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.base_texts import whence
from ollama_ft.runtime.store import Store

if TYPE_CHECKING:
    from ollama_ft.runtime.client import Ollama
    from ollama_ft.runtime.probe import Runtime

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


def examine_runtime(db: Database, client: "Ollama") -> Iterator[Finding]:
    """Look at the runtime: whether it can do what the families need, has what is live, and what
    lies in its memory; nothing is changed.

    Raises RuntimeUnavailable if it does not answer.
    """
    from ollama_ft.runtime.probe import probe

    runtime = probe(client)
    text = f"{runtime.kind} {runtime.version} at {runtime.address}"
    yield Finding(name="runtime", ok=True, text=text)
    yield _memory(client)
    yield from _routes(db, runtime)
    for family in reversed(every(db, Family)):
        standing = refs.family(db, family.name)
        yield from _floor(row(db, Base, standing.base), runtime, standing)
        yield from _moved(row(db, Base, standing.base), client, standing)
        yield _served(db, client, standing)


def _memory(client: "Ollama") -> Finding:
    from ollama_ft.runtime.memory import told

    there = client.ps()
    if not there:
        return Finding(name="in memory", ok=True, text="no model")
    mend = "before a training: ollama-ft train --unload, or ollama stop " + there[0].name
    return Finding(name="in memory", ok=True, text=told(there), mend=mend)


def _routes(db: Database, runtime: "Runtime") -> Iterator[Finding]:
    address = "embedded" if runtime.kind == "embedded" else runtime.address
    known = every(db, Publication, address=address, runtime_version=runtime.version)
    refused = json.loads(known[0].capabilities_json).get("refused", {}) if known else {}
    if refused:
        text = "; ".join(f"{name} refused: {reason}" for name, reason in refused.items())
        yield Finding(name="routes", ok=True, text=f"{known[0].route} works here; {text}")


def _floor(base: Base, runtime: "Runtime", family: Family) -> Iterator[Finding]:
    from ollama_ft.runtime.probe import check_floor

    try:
        check_floor(runtime, base.architecture)
    except RuntimeUnavailable as error:
        yield Finding(name=f"{family.name} here", ok=False, text=str(error), mend=error.mend)


def _moved(base: Base, client: "Ollama", family: Family) -> Iterator[Finding]:
    """The base's own name may stand for something newer; the family keeps what it was taught on."""
    if (now := client.find(base.name)) and now.layers != (base.blob_digest,):
        text = f"stands for other weights now; {family.name} keeps {base.blob_digest[:19]}"
        mend = f"to move with it: ollama-ft rebase {family.name}"
        yield Finding(name=base.name, ok=True, text=text, mend=mend)


def _served(db: Database, client: "Ollama", family: Family) -> Finding:
    """Whether `family:latest` answers as the live version, and each kept version is there."""
    current = refs.live(db, family.name)
    latest = client.find(f"{family.name}:latest")
    name, mend = f"{family.name} here", "ollama-ft publish --all"
    versions = every(db, Version, family=family.name)
    gone = [v.tag for v in versions[::-1] if _is_kept(db, v) and client.find(v.tag) is None]
    if gone:
        text = f"the runtime lacks {', '.join(gone)}"
        return Finding(name=name, ok=False, text=text, mend=mend)
    if current and (latest is None or latest.layers != _layers(client, current.version)):
        text = f"{family.name}:latest is not {current.version.tag}, which is live"
        return Finding(name=name, ok=False, text=text, mend=mend)
    there = f"all {len(versions)} versions" if len(versions) > 1 else "v0"
    live = f"; latest is {current.version.tag}" if current else ""
    return Finding(name=name, ok=True, text=there + live)


def _is_kept(db: Database, version: Version) -> bool:
    """Whether it was brought to a runtime once, and gc has not let it go since."""
    if not every(db, Publication, version=version.key):
        return False
    return not every(db, Removal, version=version.key)


def _layers(client: "Ollama", version: Version) -> tuple[str, ...]:
    return client.show(version.tag).layers


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
    mend = "" if free > ROOM else "ollama-ft gc --dry-run, to see what may go"
    return Finding(name="disk", ok=free > ROOM, text=text, mend=mend)


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
            f"base {base.name}", store.blob_path(blob), blob, f"ollama-ft base pull {whence(base)}"
        )


def _adapters(db: Database, home: Home) -> Iterator[Finding]:
    folder = home.data("adapters")
    let_go = {removal.digest for removal in every(db, Removal)}
    wrong = []
    for adapter in every(db, Adapter):
        path = artefact(folder, adapter.digest, ".gguf")
        gone = adapter.digest in let_go and not path.exists()  # it may have come back since
        if not gone and not _is_whole(path, adapter.digest):
            wrong.append((adapter, path))
    if wrong:
        (adapter, path), *_ = wrong
        text = f"{len(wrong)} missing or changed: {adapter.digest}"
        version = newest(db, Version, adapter=adapter.key)
        mend = way_back(db, version) if version else "ollama-ft resume, to go on with its training"
        mend = f"rm {path}; {mend}" if path.exists() else mend
        yield Finding(name="adapters", ok=False, text=text, mend=mend)
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
