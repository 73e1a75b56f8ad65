"""The few pieces of ASGI that the rooms of the proxy share."""

import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

OURS = b"x-ollama-ft-"  # headers that are for the proxy; the runtime never sees them


def header(scope: Scope, name: bytes) -> str:
    """One header of a request; "" if it is not there."""
    found = next((value for key, value in scope["headers"] if key == name), b"")
    return str(found.decode("latin-1"))


def without(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> Headers:
    """The headers but for these."""
    return [(key, value) for key, value in headers if key.lower() not in names]


def plain(scope: Scope) -> Scope:
    """The request, asking for an answer that is not packed, so that it can be read and changed."""
    headers = without(scope["headers"], b"accept-encoding")
    return {**scope, "headers": [*headers, (b"accept-encoding", b"identity")]}


async def body_of(receive: Receive, most: float = math.inf) -> bytes | None:
    """The whole body of a request; None if the client went away before its end, or it has more
    bytes than `most`."""
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > most:
            return None
        if not message.get("more_body"):
            return b"".join(pieces)


def given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives this body first, then what the connection says."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


async def answer(
    send: Send, body: Mapping[str, object], status: int = 200, headers: Iterable[Any] = ()
) -> None:
    """Answer with one JSON object."""
    content = json.dumps(body, ensure_ascii=False).encode()
    start: Headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": content})
