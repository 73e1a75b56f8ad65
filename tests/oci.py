"""A registry on loopback that takes and gives whole blobs, for the tests of pull and push."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ollama_ft.core.files import digest_bytes

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@contextmanager
def oci_registry() -> Iterator[str]:
    """Serve an empty registry; its host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.blobs, server.manifests = {}, {}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        held = self.server
        name, _, last = self.path.removeprefix("/v2/").rpartition("/")
        if name.endswith("/blobs"):
            self.answer(held.blobs.get(last))  # type: ignore[attr-defined]
        elif name.endswith("/manifests"):
            self.answer(held.manifests.get(self.path), _MANIFEST)  # type: ignore[attr-defined]
        elif name.endswith("/tags"):
            repository = name.removesuffix("/tags")
            tags = [p.rpartition("/")[2] for p in held.manifests if f"/{repository}/" in p]  # type: ignore[attr-defined]
            body = json.dumps({"name": repository, "tags": tags}, separators=(",", ":")) + "\n"
            self.answer(body.encode() if tags else None, "application/json; charset=utf-8")
        else:
            self.answer(None)

    def do_POST(self) -> None:
        self.send_response(202)
        self.send_header("Location", f"http://{self.headers['Host']}{self.path}one")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if "/manifests/" in self.path:
            self.server.manifests[self.path] = content  # type: ignore[attr-defined]
        else:
            digest = self.path.partition("digest=")[2].replace("%3A", ":")
            assert digest == digest_bytes(content)
            self.server.blobs[digest] = content  # type: ignore[attr-defined]
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, content: bytes | None, kind: str = "application/octet-stream") -> None:
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content or b"")

    def log_message(self, *args: object) -> None:
        pass
