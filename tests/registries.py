"""A tiny registry on loopback for the tests: models in a dict, and faults on request."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ollama_ft.core.files import digest_bytes
from ollama_ft.runtime.answers import Details
from ollama_ft.runtime.assemble import Texts, assemble


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

    def do_GET(self) -> None:
        held = self.held
        held.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        _, _, path = self.path.partition("/v2/")
        if "/manifests/" in path:
            repository, _, tag = path.rpartition("/manifests/")
            self.reply(200, held.manifests.get(f"{repository}:{tag}"))
        elif held.fail:
            held.fail -= 1
            self.send_error(500)
        else:
            self.blob(held.blobs.get(path.rpartition("/blobs/")[2]))

    def reply(self, status: int, content: bytes | None) -> None:
        self.send_response(404 if content is None else status)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        cut = self.held.cut_after if self.path.count("/blobs/") else None
        sent = (content or b"")[:cut]
        self.wfile.write(sent)
        if len(sent) < len(content or b""):
            self.close_connection = True
            self.connection.shutdown(1)

    def blob(self, content: bytes | None) -> None:
        asked = self.headers.get("Range", "")
        start = 0
        if asked and not self.held.ignore_range:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        body = None if content is None else content[start:]
        self.held.sent += len((body or b"")[: self.held.cut_after])
        self.reply(206 if start else 200, body)

    def log_message(self, *args: object) -> None:
        pass
