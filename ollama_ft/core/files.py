"""Files that are whole or not there: digests, atomic writing, content-addressed artefacts."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ollama_ft.core.errors import OutOfResources

CHUNK = 1 << 20
RESERVE = 64 << 20  # bytes of disk that stay free


def digest_bytes(content: bytes) -> str:
    """Return "sha256:<hex>" of `content`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_file(path: Path) -> str:
    """Return "sha256:<hex>" of the file's content, read in pieces."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], *, mode: int = 0o644) -> Path:
    """Let `write` fill a temporary file, sync it, then give it the name `path`.

    Raises OutOfResources when the disk is full. Whatever is raised, `path` is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise OutOfResources(f"The disk is full; {path.name} was not written.") from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write `content` to `path` as a whole or not at all; see write_atomic."""
    return write_atomic(path, lambda file: file.write(content))


def check_room(folder: Path, need: int) -> None:
    """Raise OutOfResources unless so many bytes can be written below `folder`, and some stay."""
    standing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(standing).free - RESERVE
    if need > free:
        raise OutOfResources(
            f"{need / 1e6:,.0f} MB are to be fetched, and {folder} has room for "
            f"{max(free, 0) / 1e6:,.0f} MB.",
            mend="make room (ollama-ft gc --dry-run), or choose another home with --home",
        )


def freeze(folder: Path, content: bytes, suffix: str) -> tuple[str, Path]:
    """Store `content` in `folder` under its own digest; return the digest and the path."""
    digest = digest_bytes(content)
    path = artefact(folder, digest, suffix)
    if not path.exists():
        write_bytes(path, content)
    return digest, path


def artefact(folder: Path, digest: str, suffix: str) -> Path:
    """The path that `freeze` gives to the content with this digest."""
    return folder / f"{digest.removeprefix('sha256:')}{suffix}"
