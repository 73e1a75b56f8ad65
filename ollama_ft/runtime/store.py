"""Ollama's own layout on disk: `manifests/<host>/<namespace>/<model>/<tag>` and
`blobs/sha256-<hex>`.

`OLLAMA_MODELS=<root> ollama serve` runs on such a folder as it is, and the embedded runtime does
too. Blobs and manifests get their names last, so a crash leaves the old state or the new one.
Nothing is removed unless asked: `delete_manifest` takes a name away, `prune` the blobs that no name
needs.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound, OutOfResources
from ollama_ft.core.files import CHUNK, digest_bytes, digest_file, write_bytes
from ollama_ft.runtime.manifest import (
    CONFIG_TYPE,
    LAYER_PREFIX,
    MANIFEST_TYPE,
    Layer,
    Manifest,
    checked_digest,
    go_json,
    is_digest,
)
from ollama_ft.runtime.names import Name

__all__ = [
    "CONFIG_TYPE",
    "LAYER_PREFIX",
    "MANIFEST_LIMIT",
    "MANIFEST_TYPE",
    "Incoming",
    "Layer",
    "Manifest",
    "Store",
    "StoredModel",
    "checked_digest",
    "go_json",
]

MANIFEST_LIMIT = 4 << 20  # bytes; the largest known manifests have a few hundred layers


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """One name in the store. `digest` is the sha256 of the manifest's bytes, in hex without a
    prefix."""

    name: Name
    manifest: Manifest
    digest: str
    modified: float  # seconds since 1970

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return self.manifest.size


class Store:
    """A models folder in Ollama's layout. Folders are made when something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.manifests = root / "manifests"

    # Blobs

    def blob_path(self, digest: str) -> Path:
        """Where the blob lies, or would lie. Raises BadInput for what is no sha256 digest."""
        return self.blobs / checked_digest(digest).replace(":", "-")

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self.blob_path(digest).is_file()

    def add_blob(self, content: Path | bytes | Iterable[bytes], expected: str | None = None) -> str:
        """Store a blob, and return its digest. A file is hard-linked where the disk allows, else
        copied.

        Raises BadInput when the content has another digest than `expected`, OutOfResources when the
        disk is full; in both cases nothing is left.
        """
        if isinstance(content, Path):
            return self._add_file(content, expected)
        pieces = (content,) if isinstance(content, bytes) else content
        return self._add_pieces(pieces, expected)

    def adopt(self, path: Path, digest: str) -> None:
        """Make a file on the same disk, synced and known to have this digest, the blob."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        path.chmod(0o644)
        path.replace(self.blob_path(digest))

    def put(self, content: bytes) -> tuple[str, bool]:
        """Store a small blob unless it is there; its digest, and whether it is new."""
        digest = digest_bytes(content)
        if self.has_blob(digest):
            return digest, False
        return self.add_blob(content), True

    def incoming(self) -> "Incoming":
        """A blob that comes in pieces from somewhere that may fail."""
        return Incoming(self)

    def read_blob(self, digest: str, limit: int = 64 << 20) -> bytes:
        """A small blob's bytes. Raises NotFound, and BadInput beyond `limit` bytes."""
        path = self.blob_path(digest)
        if not path.is_file():
            raise NotFound(f"The blob {digest} is not in {self.root}.")
        if path.stat().st_size > limit:
            raise BadInput(
                f"The blob {digest} has more than {limit} bytes, too many for what it should be."
            )
        return path.read_bytes()

    # Manifests

    def manifest_path(self, name: Name) -> Path:
        """Where the manifest of exactly this spelling lies, or would lie."""
        return self.manifests.joinpath(*name.parts)

    def find(self, name: Name) -> Name | None:
        """The stored spelling of this name, whatever its case; None if it is not stored."""
        if self.manifest_path(name).is_file():
            return name
        wanted = name.lower()
        return next((stored for stored in self.names() if stored.lower() == wanted), None)

    def spelled(self, name: Name) -> Name:
        """The name as a new manifest gets it: each part as any stored name spells it already, as
        Ollama does."""
        known = {
            (place, part.lower()): part
            for stored in self.names()
            for place, part in enumerate(stored.parts)
        }
        host, namespace, model, tag = (
            known.get((place, part.lower()), part) for place, part in enumerate(name.parts)
        )
        return Name(host=host, namespace=namespace, model=model, tag=tag, scheme=name.scheme)

    def names(self) -> Iterator[Name]:
        """Every stored name, in no order. Files whose path is no name are passed over."""
        for path in self.manifests.glob("*/*/*/*"):
            host, namespace, model, tag = path.relative_to(self.manifests).parts
            try:
                name = Name(host=host, namespace=namespace, model=model, tag=tag)
            except BadInput:
                continue
            if path.is_file():
                yield name

    def read(self, name: Name) -> StoredModel:
        """The model of this name, in any spelling.

        Raises NotFound, and BadInput for a broken manifest.
        """
        found = self.find(name)
        if found is None:
            raise NotFound(f"{name.short} is not in {self.root}.")
        path = self.manifest_path(found)
        try:
            if path.stat().st_size > MANIFEST_LIMIT:
                raise BadInput(f"The manifest of {name.short} is too large to be one.")
            content = path.read_bytes()
            modified = path.stat().st_mtime
        except FileNotFoundError as error:
            raise NotFound(f"{name.short} is not in {self.root}.") from error
        return StoredModel(
            name=found,
            manifest=Manifest.parse(content),
            digest=hashlib.sha256(content).hexdigest(),
            modified=modified,
        )

    def read_manifest(self, name: Name) -> Manifest:
        """The manifest alone; see `read`."""
        return self.read(name).manifest

    def write_manifest(self, name: Name, manifest: Manifest | bytes) -> Path:
        """Let the name stand for this manifest, in one step. Bytes are kept as they are, after a
        check.

        Raises BadInput for bytes that are no manifest.
        """
        content = manifest.content() if isinstance(manifest, Manifest) else manifest
        Manifest.parse(content)
        return write_bytes(self.manifest_path(name), content)

    def copy(self, source: Name, target: Name) -> Path:
        """Let `target` stand for what `source` stands for, byte for byte. Raises NotFound."""
        found = self.find(source)
        if found is None:
            raise NotFound(f"{source.short} is not in {self.root}.")
        return self.write_manifest(target, self.manifest_path(found).read_bytes())

    def delete_manifest(self, name: Name) -> Manifest | None:
        """Take the name away; its blobs stay. Returns what it stood for, None for a broken
        manifest.

        Raises NotFound.
        """
        found = self.find(name)
        if found is None:
            raise NotFound(f"{name.short} is not in {self.root}.")
        path = self.manifest_path(found)
        try:
            manifest = Manifest.parse(path.read_bytes())
        except BadInput:
            manifest = None
        path.unlink(missing_ok=True)
        _remove_empty(path.parent, self.manifests)
        return manifest

    def list(self) -> tuple[StoredModel, ...]:
        """Every readable model, newest first. A broken manifest is passed over; see `broken`."""
        models = [model for model in map(self._readable, self.names()) if model]
        return tuple(sorted(models, key=lambda model: model.modified, reverse=True))

    def broken(self) -> tuple[Name, ...]:
        """Names whose manifest cannot be read, as a crash of another program may leave them."""
        return tuple(name for name in self.names() if self._readable(name) is None)

    # Removing

    def unreferenced(self) -> dict[str, Path]:
        """Blobs that no readable manifest needs, by digest. Empty while any manifest is broken."""
        if self.broken():
            return {}
        needed = {digest for model in self.list() for digest in model.manifest.digests}
        blobs = {path.name.replace("-", ":", 1): path for path in self.blobs.glob("sha256-*")}
        return {
            digest: path
            for digest, path in blobs.items()
            if is_digest(digest) and digest not in needed
        }

    def prune(
        self, *, only: Iterable[str] | None = None, older_than: float = 3600
    ) -> tuple[str, ...]:
        """Remove blobs that no name needs, and return their digests.

        `only` limits it to these digests; blobs younger than `older_than` seconds stay, since an
        upload comes before the manifest that names it. Nothing is removed while any manifest is
        broken.
        """
        wanted = None if only is None else set(only)
        limit = time.time() - older_than
        removed = []
        for digest, path in self.unreferenced().items():
            if (wanted is None or digest in wanted) and _age_mark(path) <= limit:
                path.unlink(missing_ok=True)
                removed.append(digest)
        return tuple(sorted(removed))

    def sweep(self, older_than: float = 3600) -> None:
        """Remove what writers that were killed left behind, once it is `older_than` seconds old."""
        limit = time.time() - older_than
        left = [*self.blobs.glob(".incoming-*"), *self.blobs.glob(".merge-*")]
        left += [*self.manifests.glob("*/*/*/.*.tmp")]
        for path in left:
            with suppress(FileNotFoundError):  # its writer lives, and was quicker
                if _age_mark(path) <= limit:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    # Parts

    def _readable(self, name: Name) -> StoredModel | None:
        try:
            return self.read(name)
        except (BadInput, NotFound):
            return None

    def _add_file(self, path: Path, expected: str | None) -> str:
        digest = digest_file(path)
        _compare(digest, expected)
        target = self.blob_path(digest)
        if target.is_file():
            return digest
        self.blobs.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except FileExistsError:
            return digest
        except OSError:
            return self._copy_file(path, digest)
        return digest

    def _copy_file(self, path: Path, digest: str) -> str:
        size = path.stat().st_size
        if shutil.disk_usage(self.blobs).free < size:
            raise OutOfResources(f"{path.name} needs {size} bytes, more than {self.root} has left.")
        with path.open("rb") as file:
            return self._add_pieces(iter(lambda: file.read(CHUNK), b""), digest)

    def _add_pieces(self, pieces: Iterable[bytes], expected: str | None) -> str:
        incoming = self.incoming()
        try:
            for piece in pieces:
                incoming.write(piece)
            _compare(incoming.digest, expected)
            return incoming.finish()
        finally:
            incoming.drop()


class Incoming:
    """A blob on its way in. `drop` it in any case; after `finish` that does nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.blobs.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".incoming-", dir=store.blobs)
        self._file = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._hasher = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Of what has come so far."""
        return f"sha256:{self._hasher.hexdigest()}"

    def write(self, piece: bytes) -> None:
        """Take the next bytes. Raises OutOfResources when the disk is full."""
        self._hasher.update(piece)
        with _full_disk(self._store.root):
            self._file.write(piece)

    def finish(self) -> str:
        """Give the blob its name, and return its digest. Raises OutOfResources when the disk is
        full."""
        with _full_disk(self._store.root):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._path.chmod(0o644)
        self._path.replace(self._store.blob_path(self.digest))
        return self.digest

    def drop(self) -> None:
        """Remove what has come, unless it is finished."""
        with suppress(OSError):  # closing flushes, which a full disk refuses
            self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def _full_disk(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfResources(f"The disk of {root} is full.") from error
        raise


def _compare(digest: str, expected: str | None) -> None:
    if expected is not None and digest != checked_digest(expected):
        raise BadInput(f"The content has the digest {digest}, not {expected}.")


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and folder.is_relative_to(top):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _age_mark(path: Path) -> float:
    # A hard link keeps the file's old mtime, but renews its ctime.
    state = path.stat()
    return max(state.st_mtime, state.st_ctime)
