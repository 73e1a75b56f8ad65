"""Lists of models that say the same as the names do: `family:latest` is the live version.

While a promotion moves the runtime's own tag, or where that tag was lost, the runtime's list would
disagree with what it answers with.
"""

import json
from collections.abc import Mapping

from ollama_ft.serve.asgi import App, Message, Receive, Scope, Send, plain, without


async def corrected(
    runtime: App, scope: Scope, receive: Receive, send: Send, live: Mapping[str, str]
) -> None:
    """Pass the request on; correct the list that is answered, if there is anything to correct."""
    if not live:
        await runtime(scope, receive, send)
        return
    start: Message = {}
    pieces: list[bytes] = []

    async def gather(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        pieces.append(message.get("body", b""))
        if message.get("more_body"):
            return
        content = b"".join(pieces)
        body = _with_live(content, live) if start["status"] == 200 else content
        length = (b"content-length", str(len(body)).encode())
        headers = without(start["headers"], b"content-length")
        await send({**start, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})

    await runtime(plain(scope), receive, gather)


def _with_live(content: bytes, live: Mapping[str, str]) -> bytes:
    """The list with each `family:latest` as its live version; as it was, if it agrees."""
    try:
        body = json.loads(content)
        rows = body["models"] if "models" in body else body["data"]
        key = "name" if "models" in body else "id"
        by_name = {row[key]: row for row in rows}
    except (ValueError, KeyError, TypeError):
        return content
    changed = False
    for family, tag in live.items():
        version, latest = by_name.get(tag), by_name.get(f"{family}:latest")
        if version is None:
            continue
        told = version | {name: f"{family}:latest" for name in (key, "model") if name in version}
        if latest is None:
            rows.insert(0, told)
            changed = True
        elif latest.get("digest") != version.get("digest"):
            rows[rows.index(latest)] = told
            changed = True
    return json.dumps(body).encode() if changed else content
