"""Every request passed on to a runtime over HTTP, byte for byte in both directions.

aiohttp, because it adds a third of the time to the first byte that httpx adds, and holds its pace
with many clients at once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace, TracebackType
from typing import Self

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    TraceConfig,
)
from aiohttp.client_exceptions import ServerDisconnectedError
from yarl import URL

from ollama_ft.runtime.host import Address
from ollama_ft.serve.asgi import OURS, Headers, Message, Receive, Scope, Send, answer, header

# RFC 9110, 7.6.1: headers that mean one connection, besides those that Connection names.
_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te"}
    | {b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"}
)
_BODY = frozenset({b"content-length", b"transfer-encoding"})  # whether a request has one
# The server in front of us has answered Expect; a runtime that does not would be waited for.
_NOT_ASKED = frozenset({b"host", b"expect"})
_CONNECT_SECONDS = 5.0
_KEEP_SECONDS = 4.0  # idle connections are closed before a server with 5 seconds closes them
_OWN = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})


class BrokenAnswer(Exception):
    """The runtime broke an answer off; the client's connection must break too, not end well."""


class Forward:
    """An ASGI application that is the runtime at `address`. A context manager.

    `api_key` is for a runtime that wants one: it goes with calls that bring no key of their own.
    """

    def __init__(self, address: Address, api_key: str = "") -> None:
        self.address = address
        self._key = api_key
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=_KEEP_SECONDS),
            timeout=ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            skip_auto_headers=_OWN,
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),  # cookies are the client's, not everybody's
            trust_env=not self.address.is_loopback,
            trace_configs=[_noting_kept_connections()],
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None, "left what was entered"
        await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on. A client that goes away takes its request at the runtime along."""
        if not scope["path"].startswith("/"):  # OPTIONS *
            await answer(send, {"error": f"{scope['path']} is no path"}, 400)
            return
        watch = _Watch(receive)
        work = asyncio.ensure_future(self._exchange(scope, watch, send))
        gone = asyncio.ensure_future(watch.gone())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        finally:
            for task in (gone, work):
                task.cancel()
            with suppress(asyncio.CancelledError, ClientError, BrokenAnswer, OSError):
                await work

    async def _exchange(self, scope: Scope, watch: "_Watch", send: Send) -> None:
        try:
            response = await self._ask(scope, watch)
        except (ClientError, OSError, TimeoutError) as error:
            words = f"no runtime answers at {self.address}: {error}"
            await answer(send, {"error": words}, 502)
            return
        async with response:
            raw = [(key.lower(), value) for key, value in response.raw_headers]
            dropped = _HOP | _named_hops(raw)
            headers = [(key, value) for key, value in raw if key not in dropped]
            await send(
                {"type": "http.response.start", "status": response.status, "headers": headers}
            )
            try:
                async for piece in response.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except (ClientError, OSError, TimeoutError) as error:
                raise BrokenAnswer(f"the runtime broke off: {error}") from error
            await send({"type": "http.response.body", "body": b""})

    async def _ask(self, scope: Scope, watch: "_Watch") -> ClientResponse:
        """Send the request; once more, if a kept connection was closed before it was answered."""
        assert self._session is not None, "called inside its `async with`"
        headers = _request_headers(scope, self._key)
        has_body = any(key in ("Content-Length", "Transfer-Encoding") for key, _ in headers)
        headers = [(key, value) for key, value in headers if key != "Transfer-Encoding"]
        first = await watch.body() if has_body else b""
        body: bytes | AsyncIterator[bytes] = first if watch.whole else watch.rest(first)
        url = _url(self.address, scope)
        kept: list[bool] = []  # filled if the connection was used before
        for last in (False, True):
            try:
                return await self._session.request(
                    scope["method"],
                    url,
                    headers=headers,
                    data=body if has_body else None,
                    allow_redirects=False,
                    trace_request_ctx=kept,
                )
            except ServerDisconnectedError:
                if last or not kept or not (watch.whole or not has_body):
                    raise
        raise AssertionError("the second try returns or raises")


def _noting_kept_connections() -> TraceConfig:
    config = TraceConfig()

    async def reused(_: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.append(True)

    config.on_connection_reuseconn.append(reused)
    return config


class _Watch:
    """A request's body, then the news that the client went away."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = asyncio.Event()  # the body was read to its end
        self.whole = False

    async def body(self) -> bytes:
        """The first piece; `whole` says if it is all."""
        message = await self._next()
        return bytes(message.get("body", b""))

    async def rest(self, first: bytes) -> AsyncIterator[bytes]:
        """The pieces, from the first on."""
        yield first
        while not self.whole:
            yield await self.body()

    async def gone(self) -> None:
        """Return when the client has gone away, or never."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def nothing_to_read(self) -> None:
        """There is no body."""
        self.whole = True
        self._ended.set()

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away")
        if not message.get("more_body"):
            self.nothing_to_read()
        return message


def _request_headers(scope: Scope, api_key: str) -> list[tuple[str, str]]:
    """The client's headers, but for those that mean its connection, its Host, and our own."""
    dropped = (_HOP | _NOT_ASKED | _named_hops(scope["headers"])) - _BODY
    kept: Headers = [
        (key, value)
        for key, value in scope["headers"]
        if key not in dropped and not key.startswith(OURS)
    ]
    if api_key and not header(scope, b"authorization"):
        kept.append((b"authorization", f"Bearer {api_key}".encode()))
    return [(key.decode("latin-1").title(), _text(value)) for key, value in kept]


def _named_hops(headers: Headers) -> frozenset[bytes]:
    """The further headers that Connection says are for this connection only."""
    said = b",".join(value for key, value in headers if key == b"connection")
    return frozenset(name.strip().lower() for name in said.split(b","))


def _text(value: bytes) -> str:
    # aiohttp writes headers as UTF-8, so that is how their bytes come through unchanged.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _url(address: Address, scope: Scope) -> URL:
    query = scope["query_string"].decode("latin-1")
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    return URL(f"{address.url}{path}{'?' if query else ''}{query}", encoded=True)
