"""A tiny registry on loopback for the tests: models in a dict, and faults on request."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ollama_ft.core.files import digest_bytes
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.assemble import Texts, assemble

STEP = 1 << 18  # bytes that are sent and counted at a time


@dataclass
class Registry:
    """What the registry holds, what it was asked, and how it misbehaves."""

    address: str
    manifests: dict[str, bytes] = field(default_factory=dict)  # "library/m:tag" -> bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sent: int = 0  # bytes of blobs
    cut_after: int | None = None  # bytes of a blob, then the connection is closed
    fail: int = 0  # how many more blob requests are answered with 500
    ignore_range: bool = False
    elsewhere: bool = False  # blobs are redirected, once, as registries with a CDN do
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, weights: bytes, texts: Texts | None = None) -> str:
        """Hold a model under "library/m:tag"; return its weights' digest."""
        digest = digest_bytes(weights)
        made = assemble(
            [("model", digest, len(weights))],
            texts or Texts(),
            Details(format="gguf", family="llama"),
        )
        self.blobs |= {digest: weights, **made.blobs}
        self.manifests[name] = made.manifest.content()
        return digest


@contextmanager
def registry() -> Iterator[Registry]:
    """Serve an empty registry until the block ends."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (_Handler,), {"held": (held := Registry(address=""))})
    )
    held.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    held: Registry
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        # Little lies in the kernel when a client is killed, so that what is sent is what it read.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        super().setup()

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the client was killed
            super().handle()

    def do_GET(self) -> None:
        held = self.held
        held.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        _, _, path = self.path.partition("/v2/")
        if "/manifests/" in path:
            repository, _, tag = path.rpartition("/manifests/")
            self.reply(200, held.manifests.get(f"{repository}:{tag}"))
        elif held.elsewhere and not path.startswith("cdn/"):
            self.send_response(302)
            self.send_header(
                "Location", f"http://localhost:{self.server.server_port}/v2/cdn/{path}"
            )  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif held.fail:
            held.fail -= 1
            self.send_error(500)
        else:
            self.blob(held.blobs.get(path.rpartition("/blobs/")[2]))

    def reply(self, status: int, content: bytes | memoryview | None) -> None:
        self.send_response(404 if content is None else status)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        is_blob = "/blobs/" in self.path
        body = memoryview(content or b"")
        whole = body[: self.held.cut_after if is_blob else None]
        for start in range(0, len(whole), STEP):
            self.wfile.write(whole[start : start + STEP])
            if is_blob:
                with self.held.lock:
                    self.held.sent += len(whole[start : start + STEP])
        if len(whole) < len(body):
            self.close_connection = True
            self.connection.shutdown(1)

    def blob(self, content: bytes | None) -> None:
        asked = self.headers.get("Range", "")
        if content is None or not asked or self.held.ignore_range:
            body = content
        else:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            body = memoryview(content)[int(start) : int(end) + 1]
        self.reply(206 if asked and not self.held.ignore_range else 200, body)

    def log_message(self, *args: object) -> None:
        pass
