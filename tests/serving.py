"""The proxy in front of a runtime that answers as it is told, both started by the test."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from ollama_ft.core.home import Home
from ollama_ft.core.logbook import open_log
from ollama_ft.runtime.host import Address, parse_host
from ollama_ft.serve.guard import Doorkeeper
from ollama_ft.serve.redaction import clean
from ollama_ft.serve.server import Plan, Running, serve
from ollama_ft.serve.writer import Keeping


@dataclass
class Upstream:
    """A runtime that says "Echo: <question> by <model>", word by word, and what it was asked."""

    address: Address
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    broken_off: list[str] = field(default_factory=list)  # paths whose client went away
    delay: float = 0.0  # seconds between words

    def last(self) -> tuple[str, str, dict[str, str], bytes]:
        return self.requests[-1]


class _Handler(BaseHTTPRequestHandler):
    upstream: Upstream
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._note()
        if self.path == "/api/tags":
            rows = [
                {"name": n, "model": n, "digest": d}
                for n, d in (("bot:latest", "d0"), ("bot:v0", "d0"), ("bot:v1", "d1"))
            ]
            self._json({"models": rows})
        else:
            self._json({"version": "0.33.0", "path": self.path})

    do_DELETE = do_GET

    def do_POST(self) -> None:
        content = self._note()
        body = json.loads(content) if content.startswith(b"{") else {}
        if self.path in ("/api/chat", "/api/generate"):
            self._ollama(body)
        elif self.path.startswith("/v1/") and "completions" in self.path:
            self._openai(body)
        else:
            self._json({"model": body.get("model"), "bytes": len(content)})

    def _note(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.upstream.requests.append((self.command, self.path, headers, content))
        return content

    def _ollama(self, body: dict[str, Any]) -> None:
        chat = "messages" in body
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        if "refuse" in asked:
            self._json({"error": f"model '{body['model']}' not found"}, 404)
            return
        words = f"Echo: {asked} by {body['model']}".split(" ")
        head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        lines = []
        for word in words:
            said = {"content": f"{word} "}
            lines.append(head | ({"message": said} if chat else {"response": f"{word} "}))
        if chat and "think" in asked:
            lines.insert(0, head | {"message": {"content": "", "thinking": "Hm. "}})
        end = {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3}
        empty = {"message": {"content": ""}} if chat else {"response": ""}
        lines.append(head | empty | end)
        if body.get("stream") is False:
            whole = " ".join(words)
            said_all = {"message": {"content": whole}} if chat else {"response": whole}
            self._json(head | said_all | end)
        else:
            self._stream([json.dumps(line).encode() + b"\n" for line in lines], "break" in asked)

    def _openai(self, body: dict[str, Any]) -> None:
        chat = "messages" in body
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        text = f"Echo: {asked} by {body['model']}"
        head = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        if not body.get("stream"):
            said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            choice = {"index": 0, "finish_reason": "stop"} | said
            self._json(head | {"choices": [choice], "usage": usage})
            return
        rows: list[dict[str, Any]] = [
            {"index": 0, "finish_reason": None}
            | ({"delta": {"content": f"{word} "}} if chat else {"text": f"{word} "})
            for word in text.split(" ")
        ]
        rows.append(
            {"index": 0, "finish_reason": "stop"} | ({"delta": {}} if chat else {"text": ""})
        )
        events = [json.dumps(head | {"choices": [row]}) for row in rows]
        self._stream([f"data: {event}\n\n".encode() for event in (*events, "[DONE]")], False)

    def _json(self, body: object, status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, pieces: list[bytes], broken: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for piece in pieces[: len(pieces) // 2] if broken else pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(self.upstream.delay)
            if not broken:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.upstream.broken_off.append(self.path)
            broken = True
        self.close_connection = broken

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


@contextmanager
def an_upstream() -> Iterator[Upstream]:
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    upstream = Upstream(address=parse_host(f"127.0.0.1:{server.server_port}"))
    handler.upstream = upstream  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Front:
    """A proxy that runs, a client of it, and its log."""

    def __init__(self, home: Home, running: Running) -> None:
        self.home = home
        self.url = running.address.url
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def chat(self, text: str, model: str = "bot", **body: Any) -> httpx.Response:
        asked = {"model": model, "messages": [{"role": "user", "content": text}], **body}
        return self.http.post("/api/chat", json=asked)

    def status(self) -> dict[str, Any]:
        return dict(self.http.get("/ollama-ft/status").json())

    def logged(self, count: int, seconds: float = 10) -> list[dict[str, Any]]:
        """The log's rows, as soon as there are so many."""
        db = open_log(self.home.log)
        try:
            sql = "select * from exchanges_view order by id"
            assert eventually(lambda: len(list(db.query(sql))) >= count, seconds), self.status()
            return list(db.query(sql))
        finally:
            db.close()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def a_front(
    home: Home,
    runtime: Address | None,
    *,
    token: str = "",
    redact: bool = True,
    log: bool = True,
    retain: float | None = None,
    spool_limit: int = 1 << 20,
    rag: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Front]:
    """The proxy in a thread of this process."""
    keeping = Keeping(
        path=home.log,
        clean=clean if redact else None,
        retain_days=retain,
        spool_limit=spool_limit,
    )
    plan = Plan(
        home=home,
        runtime=runtime,
        keeper=Doorkeeper(listen="127.0.0.1", token=token),
        port=0,
        keeping=keeping if log else None,
        env=env or {},
        rag=rag,
    )
    ready = threading.Event()
    found: list[Running] = []

    def on_ready(running: Running) -> None:
        found.append(running)
        ready.set()

    thread = threading.Thread(target=serve, args=(plan, on_ready), daemon=True)
    thread.start()
    assert ready.wait(60), "serve does not start"
    front = Front(home, found[0])
    try:
        yield front
    finally:
        front.http.close()
        found[0].stop()
        thread.join(15)
        assert not thread.is_alive(), "serve does not end"
