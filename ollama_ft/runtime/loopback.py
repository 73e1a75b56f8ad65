"""A registry for two minutes: hand a finished model to a runtime that pulls it from here.

Ollama checks nothing about the layers that it pulls, keeps their bytes as they are, and asks only
for blobs that it lacks. So a manifest of our own making reaches it even where create would refuse
it or rewrite the GGUF. What its pull needs of a registry: the manifest; for each blob a HEAD with
Content-Length, a GET that answers 200 with a Location header, and Range requests.
"""

import re
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.core.files import CHUNK
from ollama_ft.runtime.client import Ollama, Watch
from ollama_ft.runtime.host import Address
from ollama_ft.runtime.store import MANIFEST_TYPE, Manifest

Blobs = Mapping[str, bytes | Path]  # digest -> content, or the file that holds it
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def hand_over(
    client: Ollama,
    name: str,
    manifest: Manifest,
    blobs: Blobs,
    on_progress: Watch | None = None,
) -> None:
    """Make the runtime hold this manifest, byte for byte, under `name`.

    Raises RuntimeRefused if the runtime cannot reach us, or does not pull.
    """
    with serve_model(_own_host(client.address), manifest.content(), blobs) as pulled:
        try:
            client.pull(pulled, insecure=True, on_progress=on_progress)
            client.copy(pulled, name)
        finally:
            with suppress(RuntimeRefused):  # it may not be there; the reason is on its way
                client.delete(pulled)


@contextmanager
def serve_model(host: str, manifest: bytes, blobs: Blobs) -> Iterator[str]:
    """Serve one model on a free port of `host`; yield the name to pull.

    Nobody can guess the name, and nothing but these blobs is served.
    """
    repository = f"ollama-ft/{secrets.token_hex(16)}"
    what = {"root": f"/v2/{repository}", "manifest": manifest, "blobs": blobs}
    handler = type("Handler", (_Handler,), what)
    server = ThreadingHTTPServer((host, 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"{host}:{server.server_port}/{repository}:v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _own_host(runtime: Address) -> str:
    """The address of ours that the runtime can reach: the one that our way to it begins at."""
    if runtime.is_loopback:
        return "127.0.0.1"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect((runtime.host, runtime.port))  # a UDP socket sends nothing by this
            return str(way.getsockname()[0])
    except OSError as error:
        raise RuntimeRefused(f"no way leads from {runtime} back to this machine") from error


class _Handler(BaseHTTPRequestHandler):
    """Answers for one model. The server's own subclass says which."""

    root: str  # the path in front of manifests/ and blobs/
    manifest: bytes
    blobs: Blobs

    protocol_version = "HTTP/1.1"
    timeout = 120  # seconds; a silent connection is closed

    def do_HEAD(self) -> None:
        """Answer with headers alone."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Answer with the manifest or a blob, or the asked part of it."""
        with suppress(BrokenPipeError, ConnectionResetError):  # Ollama reads only the headers
            self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        kind, _, which = self.path.removeprefix(self.root).lstrip("/").partition("/")
        if not self.path.startswith(f"{self.root}/"):
            self.send_error(HTTPStatus.NOT_FOUND)
        elif kind == "manifests":
            self._send(self.manifest, MANIFEST_TYPE, with_body)
        elif kind == "blobs" and which in self.blobs:
            self._send(self.blobs[which], "application/octet-stream", with_body)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, content: bytes | Path, media_type: str, with_body: bool) -> None:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        start, end, partial = _range(self.headers.get("Range", ""), size)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Location", f"http://{self.headers.get('Host', '')}{self.path}")
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if with_body:
            _copy(content, start, end, self.wfile)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: stderr is the user's."""


def _range(header: str, size: int) -> tuple[int, int, bool]:
    """The first byte, the one after the last, and whether that is a part of the whole."""
    match = _RANGE.fullmatch(header)
    if match is None or int(match[1]) >= size:
        return 0, size, False
    end = min(int(match[2]) + 1, size) if match[2] else size
    start = int(match[1])
    return (start, end, True) if start < end else (0, size, False)


def _copy(content: bytes | Path, start: int, end: int, out: BufferedIOBase) -> None:
    if isinstance(content, bytes):
        out.write(content[start:end])
        return
    with content.open("rb") as file:
        file.seek(start)
        left = end - start
        while left and (piece := file.read(min(CHUNK, left))):
            out.write(piece)
            left -= len(piece)
