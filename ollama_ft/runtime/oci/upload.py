"""One blob on its way up, in pieces, over as many attempts as it takes.

After a cut the registry is asked how much it has. One that forgot the upload, or cannot tell, gets
the blob from its start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from ollama_ft.core.errors import BadInput, NotFound, RuntimeRefused, RuntimeUnavailable
from ollama_ft.runtime.oci.artefact import Descriptor
from ollama_ft.runtime.oci.wire import Wire

PIECE = 8 << 20  # bytes that one request carries …
MOST_PIECE = 64 << 20  # … or up to this, where a registry takes nothing smaller

Moved = Callable[[Descriptor, int], None]  # a blob, and how many of its bytes have moved


@dataclass
class Upload:
    """One blob on its way up, over as many attempts as it takes."""

    wire: Wire
    blob: Descriptor
    content: Path | bytes
    mount_from: str
    tell: Moved
    location: str = ""  # where the registry takes the next bytes; "" before the first attempt
    piece: int = PIECE

    def go_on(self) -> bool:
        """Send what the registry does not have yet; whether bytes had to be sent."""
        start = self._resumed() if self.location else None
        if start is None:
            if self._begin():
                return False
            start = 0
        while start < self.blob.size:
            start = self._send_piece(start)
            self.tell(self.blob, start)
        self._finish()
        return True

    def _begin(self) -> bool:
        """Open an upload; True if the registry mounted the blob, and nothing is to be sent."""
        query = {"mount": self.blob.digest, "from": self.mount_from} if self.mount_from else {}
        url = httpx.URL(f"{self.wire.url}/blobs/uploads/").copy_merge_params(query)
        with self.wire.ask("POST", str(url), content=b"") as response:
            self.wire.check(response, "the repository cannot be made")
            if response.status_code == httpx.codes.CREATED:
                return True
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            self.piece = min(max(PIECE, int(least) if least.isdigit() else 0), MOST_PIECE)
            self._follow(response)
        return False

    def _resumed(self) -> int | None:
        """How many bytes the registry has of a cut upload; None if it knows nothing of it."""
        try:
            with self.wire.ask("GET", self.location) as response:
                self.wire.check(response, "the upload is not known any more")
                self._follow(response)
                return _received(response.headers.get("Range", ""))
        except (NotFound, RuntimeRefused):
            self.location = ""
            return None

    def _send_piece(self, start: int) -> int:
        content = self._read(start)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{start}-{start + len(content) - 1}",
        }
        with self.wire.ask("PATCH", self.location, headers, content) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                self._lost()
            self.wire.check(response, "")
            self._follow(response)
        return start + len(content)

    def _finish(self) -> None:
        url = httpx.URL(self.location).copy_merge_params({"digest": self.blob.digest})
        with self.wire.ask("PUT", str(url), content=b"") as response:
            if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST):
                # Half a piece may have been taken without our hearing of it: begin again.
                self._lost()
            self.wire.check(response, "")

    def _lost(self) -> None:
        self.location = ""
        raise RuntimeUnavailable(
            f"The registry at {self.wire.host} lost the upload of {self.blob.digest}."
        )

    def _follow(self, response: httpx.Response) -> None:
        location = response.headers.get("Location")
        if location:
            target = response.url.join(location)
            if target.host == response.url.host and target.scheme != response.url.scheme:
                # A proxy in front that speaks https tells the registry nothing of it.
                target = target.copy_with(scheme=response.url.scheme, port=response.url.port)
            self.location = str(target)
        elif not self.location:
            raise RuntimeRefused(f"{self.wire.host} says nowhere to send a blob to.")

    def _read(self, start: int) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[start : start + self.piece]
        with self.content.open("rb") as file:
            file.seek(start)
            content = file.read(self.piece)
        if not content:
            raise BadInput(f"{self.content} is shorter than it was.")
        return content


def _received(header: str) -> int:
    """How many bytes "0-4095" says; an upload that has none says "0-0" or nothing."""
    _, _, last = header.removeprefix("bytes=").partition("-")
    return int(last) + 1 if last.isdigit() and last != "0" else 0
