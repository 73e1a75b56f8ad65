"""An artefact as one file: a tar of an OCI image layout, the same bytes for the same content.

    oci-layout                    {"imageLayoutVersion":"1.0.0"}
    index.json                    one manifest, by digest
    blobs/sha256/<hex>            the manifest, the config, the layers

Any tool that reads OCI layouts reads it (`oras cp --from-oci-layout`, `skopeo`). A file from
outside is hostile: what is not one of these names, is no plain file, is compressed, larger than it
claims, or has another digest than its name is refused, and nothing is written outside the folder
given.
"""

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from ollama_ft.core.errors import BadInput, NotFound, OutOfResources
from ollama_ft.core.files import CHUNK, digest_bytes, digest_file, write_atomic
from ollama_ft.runtime.oci.artefact import (
    INDEX,
    MANIFEST,
    MOST_LAYERS,
    MOST_MANIFEST_BYTES,
    Artefact,
    Descriptor,
    canonical,
    read_json,
)

MARK = "oci-layout"
VERSION = {"imageLayoutVersion": "1.0.0"}
MOST_BYTES = 16 << 30  # of all blobs together; adapters have at most 8 GiB
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")

Contents = Mapping[str, bytes | Path]  # digest → content, or the file that holds it


def write_layout(path: Path, artefact: Artefact, contents: Contents, name: str) -> Path:
    """Write the artefact as one tar at `path`; `name` is what it is called in the index.

    Raises OutOfResources when the disk is full; `path` is as it was before then.
    """
    manifest = artefact.content()
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            Descriptor(
                media_type=MANIFEST,
                digest=digest_bytes(manifest),
                size=len(manifest),
                annotations={"org.opencontainers.image.ref.name": name},
            ).to_json()
            | {"artifactType": artefact.kind}
        ],
    }
    blobs = {digest_bytes(manifest): manifest, **contents}

    def write(file: IO[bytes]) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, MARK, canonical(VERSION))
            _add(tar, "index.json", canonical(index))
            for digest in sorted(blobs):
                _add(tar, f"blobs/sha256/{digest.removeprefix('sha256:')}", blobs[digest])

    return write_atomic(path, write)


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)  # its time, owner and group are zero
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        return
    entry.size = content.stat().st_size
    with content.open("rb") as file:
        tar.addfile(entry, file)


def is_layout(path: Path) -> bool:
    """Whether the file begins as a layout's tar does."""
    with path.open("rb") as file:
        head = file.read(512)
    return len(head) == 512 and head[257:262] == b"ustar" and b"oci-layout" in head[:100]


def read_layout(path: Path, folder: Path) -> Artefact:
    """Unpack the blobs of a layout's tar into `folder`, each under its digest's hex; return the
    artefact.

    Raises BadInput for what is no such file, is damaged or hostile, and OutOfResources for a full
    disk. `folder` may hold blobs then; nothing else was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    small: dict[str, bytes] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=_Guarded(file), mode="r:") as tar:
            _unpack(tar, folder, small)
    except (tarfile.TarError, RecursionError, OverflowError, UnicodeError, EOFError) as error:
        raise BadInput(f"{path.name} is no bundle, or damaged: {error}.") from error
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    if read_json(small.get(MARK, b""), MARK) != VERSION:
        raise BadInput(f"{path.name} is a layout of another version.")
    return _artefact(read_json(small.get("index.json", b""), "index"), folder)


def blob_path(folder: Path, digest: str) -> Path:
    """Where `read_layout` puts the blob with this digest."""
    return folder / digest.removeprefix("sha256:")


def _unpack(tar: tarfile.TarFile, folder: Path, small: dict[str, bytes]) -> None:
    total = 0
    for count, entry in enumerate(tar):
        total += entry.size
        if count > MOST_LAYERS + 8 or total > MOST_BYTES:
            raise BadInput("The bundle holds too many files, or too large ones.")
        if entry.isdir() and entry.name in ("blobs", "blobs/sha256"):
            continue
        if not entry.isreg() or entry.issparse():
            raise BadInput(f"The bundle holds {entry.name[:80]!r}, which is no plain file.")
        content = tar.extractfile(entry)
        assert content is not None, "a plain file has content"
        if blob := _BLOB.fullmatch(entry.name):
            _keep(content, folder / blob[1], f"sha256:{blob[1]}")
        elif entry.name in (MARK, "index.json") and entry.name not in small:
            small[entry.name] = content.read(MOST_MANIFEST_BYTES)
        else:
            raise BadInput(f"The bundle holds {entry.name[:80]!r}, which does not belong there.")


def _keep(content: IO[bytes], path: Path, digest: str) -> None:
    if path.exists():
        raise BadInput(f"The bundle holds {digest} twice.")

    def write(file: IO[bytes]) -> None:
        while piece := content.read(CHUNK):
            file.write(piece)

    try:
        write_atomic(path, write)
    except OSError as error:
        raise OutOfResources(f"{path.parent} cannot be written: {error.strerror}.") from error
    if digest_file(path) != digest:
        path.unlink()
        raise BadInput(f"The bundle was changed: what it calls {digest} is something else.")


def _artefact(index: Mapping[str, object], folder: Path) -> Artefact:
    manifests = index.get("manifests")
    if not isinstance(manifests, list) or len(manifests) != 1:
        raise BadInput("The bundle holds not one manifest, but several or none.")
    told = Descriptor.from_json(manifests[0])
    path = blob_path(folder, told.digest)
    if not path.is_file() or path.stat().st_size > MOST_MANIFEST_BYTES:
        raise BadInput("The bundle lacks its manifest, or it is too large to be one.")
    artefact = Artefact.parse(path.read_bytes())
    for blob in artefact.blobs:
        found = blob_path(folder, blob.digest)
        if not found.is_file() or found.stat().st_size != blob.size:
            raise BadInput(f"The bundle lacks {blob.title or blob.digest}, or a part of it.")
    return artefact


class _Guarded(io.RawIOBase):
    """A tar's file that is read in small pieces only: a header cannot make us take memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """At most CHUNK bytes. Raises BadInput when more is asked for at once."""
        if not 0 <= size <= CHUNK:
            raise BadInput("The bundle has a header of more than 1 MiB.")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As the file's."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As the file's."""
        return self._file.tell()
