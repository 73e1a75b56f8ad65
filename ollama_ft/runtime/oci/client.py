"""Manifests and blobs of one repository, down and up.

    with open_repository(place, env=os.environ) as repository:
        repository.manifest("v2")
        repository.fetch(blob, Path("part"))
        repository.send(blob, Path("adapter.gguf"))
        repository.tag("v2", content, media_type)

A failing server and a cut connection are asked again, a few times with growing pauses, and what has
arrived stays: a download goes on behind the bytes that are there, an upload behind those that the
registry says it has. Bytes are hashed as they come, and nothing with another digest is kept.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ollama_ft.core.errors import (
    BadInput,
    NotFound,
    OutOfResources,
    RuntimeRefused,
    RuntimeUnavailable,
)
from ollama_ft.core.files import digest_bytes, digest_file
from ollama_ft.runtime.oci.access import Access, read_at_most
from ollama_ft.runtime.oci.artefact import INDEX, MANIFEST, MOST_MANIFEST_BYTES, Descriptor
from ollama_ft.runtime.oci.credentials import find_credentials
from ollama_ft.runtime.oci.place import Place
from ollama_ft.runtime.oci.upload import Moved, Upload
from ollama_ft.runtime.oci.wire import Wire, trusted

# Seconds: for one piece, not for a whole blob. A registry that is slow is still at work.
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
ACCEPTED = ", ".join((MANIFEST, INDEX, "application/vnd.docker.distribution.manifest.v2+json"))


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How a registry is reached: over plain http if need be, with a CA of one's own."""

    insecure: bool = False
    ca: Path | None = None


@contextmanager
def open_repository(
    place: Place,
    *,
    env: Mapping[str, str],
    reach: Reach | None = None,
    on_moved: Moved | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator["Repository"]:
    """Reach the place's repository with what the user's logins know of its host.

    Raises BadInput for a CA that is none, a login file that cannot be read, and plain http that
    is not wanted. `pause` waits the seconds between two attempts.
    """
    reach = reach or Reach()
    origin = place.url(insecure=reach.insecure)
    credentials = find_credentials(place.host, env)
    with httpx.Client(
        auth=Access(origin, credentials, insecure=reach.insecure),
        verify=trusted(reach.ca),
        headers={"User-Agent": "ollama-ft"},
        timeout=TIMEOUT,
        follow_redirects=True,
        trust_env=not place.is_loopback,
    ) as http:
        yield Repository(Wire(http, f"{origin}/v2/{place.path}", pause), on_moved)


class Repository:
    """One repository of one registry."""

    def __init__(self, wire: Wire, on_moved: Moved | None) -> None:
        self._wire = wire
        self._on_moved = on_moved

    # Down

    def manifest(self, reference: str) -> bytes:
        """A manifest's bytes, by tag or digest; one asked for by digest is held to it.

        Raises NotFound, BadInput for other content, RuntimeRefused, RuntimeUnavailable.
        """
        repository = self._wire.url.partition("/v2/")[2]
        content = self._wire.again(
            self._body,
            f"manifests/{reference}",
            f"{reference} is not in {repository} at {self._wire.host}",
        )
        if reference.startswith("sha256:") and digest_bytes(content) != reference:
            raise BadInput(f"{self._wire.host} gave {digest_bytes(content)} for {reference}.")
        return content

    def tags(self) -> tuple[str, ...]:
        """The first hundred tags; empty where the registry does not tell."""
        try:
            said = json.loads(self._wire.again(self._body, "tags/list?n=100", "there are no tags"))
        except (NotFound, RuntimeRefused, ValueError):
            return ()
        found = said.get("tags") if isinstance(said, dict) else None
        return tuple(str(tag) for tag in found) if isinstance(found, list) else ()

    def has(self, digest: str) -> bool:
        """Whether the repository holds this blob."""
        return self._wire.again(self._has, digest)

    def fetch(self, blob: Descriptor, part: Path) -> Path:
        """Bring the blob into the file `part`, behind what is there of it already; return it.

        Raises NotFound, RuntimeRefused, RuntimeUnavailable after several attempts, OutOfResources
        for a full disk: what has come stays then. Raises BadInput for a wrong digest: nothing
        stays.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        digest = self._wire.again(self._fetch, blob, part)
        if digest != blob.digest:
            part.unlink()
            raise BadInput(
                f"{self._wire.host} sent content with the digest {digest} for {blob.digest}."
            )
        return part

    def _body(self, path: str, missing: str) -> bytes:
        url = f"{self._wire.url}/{path}"
        with self._wire.ask("GET", url, {"Accept": ACCEPTED}) as response:
            self._wire.check(response, missing)
            return read_at_most(response, MOST_MANIFEST_BYTES)

    def _has(self, digest: str) -> bool:
        with self._wire.ask("HEAD", self._blob_url(digest)) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                return False
            self._wire.check(response, "")
            return True

    def _fetch(self, blob: Descriptor, part: Path) -> str:
        """Fetch what `part` lacks of the blob; return the digest of what is there then."""
        have = part.stat().st_size if part.is_file() else 0
        if part.is_file() and have == blob.size:
            return digest_file(part)
        headers = {"Accept-Encoding": "identity"}
        if 0 < have < blob.size:
            headers["Range"] = f"bytes={have}-"
        with self._wire.ask("GET", self._blob_url(blob.digest), headers) as response:
            self._wire.check(response, f"{self._wire.host} lacks {blob.digest}")
            fresh = response.status_code != httpx.codes.PARTIAL_CONTENT
            return self._append(response, blob, part, fresh=fresh)

    def _append(
        self, response: httpx.Response, blob: Descriptor, part: Path, *, fresh: bool
    ) -> str:
        hasher = hashlib.sha256() if fresh else _hashed(part)
        try:
            with part.open("wb" if fresh else "ab") as file:
                done = file.tell()
                for piece in response.iter_raw():
                    done += len(piece)
                    if done > blob.size:
                        raise RuntimeRefused(f"{self._wire.host} sent more than {blob.digest} has.")
                    file.write(piece)
                    hasher.update(piece)
                    self._tell(blob, done)
        except OSError as error:
            raise OutOfResources(
                f"{part.parent} cannot be written ({error.strerror}); what has come is kept.",
                mend="make room, then run the command again",
            ) from error
        if done < blob.size:
            raise RuntimeUnavailable(f"{self._wire.host} sent only a part of {blob.digest}.")
        return f"sha256:{hasher.hexdigest()}"

    # Up

    def send(self, blob: Descriptor, content: Path | bytes, *, mount_from: str = "") -> bool:
        """Bring a blob up, unless the repository has it; whether bytes had to be sent.

        `mount_from` is another repository of the same registry that may hold it. Raises
        RuntimeRefused, RuntimeUnavailable after several attempts; a blob that is up stays up.
        """
        upload = Upload(
            wire=self._wire, blob=blob, content=content, mount_from=mount_from, tell=self._tell
        )
        sent = not self.has(blob.digest) and self._wire.again(upload.go_on)
        if not sent:
            self._tell(blob, blob.size)
        return sent

    def tag(self, reference: str, content: bytes, media_type: str) -> str:
        """Put a manifest under a tag (or its digest); return its digest.

        Every blob that it names has to be there. Raises as `send` does.
        """
        self._wire.again(self._put_manifest, reference, content, media_type)
        return digest_bytes(content)

    def _put_manifest(self, reference: str, content: bytes, media_type: str) -> None:
        url = f"{self._wire.url}/manifests/{reference}"
        with self._wire.ask("PUT", url, {"Content-Type": media_type}, content) as response:
            self._wire.check(response, f"{self._wire.host} cannot hold such a repository")

    def _blob_url(self, digest: str) -> str:
        return f"{self._wire.url}/blobs/{digest}"

    def _tell(self, blob: Descriptor, done: int) -> None:
        if self._on_moved:
            self._on_moved(blob, done)


def _hashed(path: Path) -> "hashlib._Hash":
    """A hasher that has read the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")
