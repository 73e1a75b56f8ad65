"""A proxy on loopback that puts one fault after another between a client and a server.

    with fault_proxy(upstream) as proxy:
        proxy.faults.append(Fault("GET", "/blobs/", cut_after=1 << 20))

Each fault is used once (`times`), on the first request that it fits; all else goes through.
"""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """What goes wrong, and with which requests."""

    method: str
    path: str  # a part of the path
    status: int = 0  # answer this, and do not ask the server
    cut_after: int | None = None  # bytes of the body (a PATCH's: of the request), then hang up
    spoil: bool = False  # change the body's last byte
    pause: float = 0.0  # seconds before each piece of the body
    times: int = 1
    skip: int = 0  # so many such requests go through before


@dataclass
class Proxy:
    """Its address, the faults to come, and what it was asked."""

    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    authorized: list[str] = field(default_factory=list)
    sent: int = 0  # bytes of bodies that went to the client

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault for this request, used up by it."""
        for fault in self.faults:
            if fault.times and method == fault.method and fault.path in path:
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


@contextmanager
def fault_proxy(upstream: str) -> Iterator[Proxy]:
    """Stand in front of `upstream` ("127.0.0.1:5000") until the block ends."""
    proxy = Proxy()
    what = {"proxy": proxy, "upstream": upstream}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), what))
    server.daemon_threads = True
    proxy.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    upstream: str
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        extra = f" {self.headers['Range']}" if "Range" in self.headers else ""
        self.proxy.asked.append(f"{self.command} {self.path}{extra}")
        self.proxy.authorized.append(self.headers.get("Authorization", ""))
        fault = self.proxy.fault(self.command, self.path) or Fault("", "")
        length = int(self.headers.get("Content-Length", 0))
        uploading = self.command in ("PATCH", "PUT") and fault.cut_after is not None
        body = self.rfile.read(min(length, fault.cut_after) if uploading else length)
        if fault.status:
            self._answer(fault.status, [("Content-Length", "0")], b"", fault)
            return
        upstream = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body or None)
            if uploading:  # half a body, then nobody there any more, on both sides
                self.close_connection = True
                upstream.close()
                time.sleep(0.2)  # the server writes what it has, and notices
                return
            answer = upstream.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read(), fault)
        finally:
            upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        if fault.spoil:
            body = body[:-1] + bytes([body[-1] ^ 1])
        part = body[: fault.cut_after] if fault.cut_after is not None else body
        with suppress(OSError):
            for start in range(0, len(part), 1 << 16):
                time.sleep(fault.pause)
                self.wfile.write(part[start : start + (1 << 16)])
            self.wfile.flush()
        self.proxy.sent += len(part)
        if len(part) < len(body):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

    def log_message(self, *args: object) -> None:
        pass
