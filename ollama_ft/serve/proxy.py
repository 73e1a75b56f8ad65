"""In front of the runtime: families are given their live version, questions are remembered.

An ASGI application around another one, the runtime: over HTTP or in this process. Whatever it does
not understand goes through untouched. What it does understand goes through too: the log gets a copy
of each piece after the piece is on its way.
"""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from ollama_ft.core.exchange import new_uid
from ollama_ft.core.records import utc_now
from ollama_ft.runtime.heard import UNDERSTOOD, Overheard, is_question
from ollama_ft.serve.asgi import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    body_of,
    given,
    header,
    plain,
    without,
)
from ollama_ft.serve.librarian import Found, Librarian, as_bytes
from ollama_ft.serve.listing import corrected
from ollama_ft.serve.names import Names, Renamer, Resolved
from ollama_ft.serve.writer import Writer

# Where a body names a model that may be a family.
_NAMING = UNDERSTOOD | {
    "/api/show",
    "/api/embed",
    "/api/embeddings",
    "/api/tokenize",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
}
_LISTS = ("/api/tags", "/v1/models")
_ONE_MODEL = "/v1/models/"

DIRECT = b"x-ollama-ft-direct"  # our own tools: no name is resolved, nothing is remembered
NO_LOG = b"x-ollama-ft-no-log"
CLIENT = b"x-ollama-ft-client"
EXCHANGE = b"x-ollama-ft-exchange"  # in the answer: the id that feedback is given to

ANSWER_LIMIT = 8 << 20  # bytes of an answer that are kept for the log
_OFF = ("", "0", "false", "no")


class Proxy:
    """The application around `runtime`. Without a writer it only resolves names."""

    def __init__(
        self,
        runtime: App,
        names: Names,
        writer: Writer | None,
        librarian: Librarian | None = None,
    ) -> None:
        self.runtime = runtime
        self.names = names
        self.writer = writer
        self.librarian = librarian

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")  # the server's own start and end have none
        if scope["type"] != "http" or _is_on(scope, DIRECT):
            await self.runtime(scope, receive, send)
        elif scope["method"] == "POST" and path in _NAMING:
            await self._named(scope, receive, send)
        elif scope["method"] == "GET" and path in _LISTS:
            await corrected(self.runtime, scope, receive, send, self.names.live())
        elif path.startswith(_ONE_MODEL):
            resolved = self.names.resolve(path.removeprefix(_ONE_MODEL))
            if resolved.renamed:
                path = f"{_ONE_MODEL}{resolved.tag}"
                scope = {**plain(scope), "path": path, "raw_path": path.encode()}
            await self.runtime(scope, receive, _renaming(send, resolved, "id"))
        else:
            await self.runtime(scope, receive, send)

    async def _named(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request whose body names a model."""
        content = await body_of(receive)
        if content is None:
            return
        body = _parsed(content)
        key = "model" if body.get("model") else "name"
        asked = body.get(key)
        if not isinstance(asked, str):
            await self.runtime(scope, given(content, receive), send)
            return
        resolved = self.names.resolve(asked)
        kept = self._kept(scope, body, len(content), resolved)
        found = await self._found(scope, body, resolved)
        if found is not None:
            content = as_bytes(found.body)
            if kept is not None:
                kept.context = found.context
        if resolved.renamed:
            content = _renamed(content, found.body if found else body, key, resolved)
            send = _renaming(send, resolved)
            scope = plain(scope)
        if resolved.renamed or found is not None:
            scope = _with_length(scope, content)
        if kept is None:
            await self.runtime(scope, given(content, receive), send)
        else:
            await self._remembered(scope, given(content, receive), send, kept)

    async def _found(
        self, scope: Scope, body: Mapping[str, Any], resolved: Resolved
    ) -> Found | None:
        """The request with passages of the family's documents; None if it goes on as it is."""
        path = scope["path"]
        if self.librarian is None or path not in UNDERSTOOD or not is_question(path, body):
            return None
        return await self.librarian.furnish(resolved.family, path, body)

    def _kept(
        self, scope: Scope, body: Mapping[str, Any], size: int, resolved: Resolved
    ) -> Overheard | None:
        """Where to keep what is overheard; None for what is not to be remembered."""
        path = scope["path"]
        if self.writer is None or path not in UNDERSTOOD or _is_on(scope, NO_LOG):
            return None
        if not is_question(path, body):
            return None
        return Overheard(
            uid=new_uid(),
            at=utc_now(),
            path=path,
            body=body,
            asked=size,
            client=_client(scope, body),
            family=resolved.family,
            version=resolved.tag,
            version_digest=resolved.digest,
        )

    async def _remembered(
        self, scope: Scope, receive: Receive, send: Send, kept: Overheard
    ) -> None:
        assert self.writer is not None, "only what is remembered comes here"
        self.writer.begin(kept.uid)
        try:
            await self.runtime(plain(scope), receive, _Ear(kept, send))
        except Exception as error:
            kept.error = str(error)
            raise
        finally:
            self.writer.offer(kept)


class _Ear:
    """A `send` that keeps a copy of the answer, after each piece is on its way."""

    def __init__(self, kept: Overheard, send: Send) -> None:
        self._kept = kept
        self._send = send
        self._begun = time.perf_counter()

    async def __call__(self, message: Message) -> None:
        kept = self._kept
        if message["type"] == "http.response.start":
            kept.status = message["status"]
            uid = (EXCHANGE, kept.uid.encode())
            message = {**message, "headers": [*message.get("headers", ()), uid]}
        await self._send(message)
        if message["type"] == "http.response.body":
            piece = message.get("body", b"")
            if piece and kept.first_ms is None:
                kept.first_ms = self._elapsed()
            if not message.get("more_body"):
                kept.total_ms = self._elapsed()
            if not kept.cut and kept.size + len(piece) <= ANSWER_LIMIT:
                kept.pieces.append(piece)
                kept.size += len(piece)
            else:
                kept.cut = True

    def _elapsed(self) -> float:
        return round((time.perf_counter() - self._begun) * 1000, 2)


def _renaming(send: Send, resolved: Resolved, key: str = "model") -> Send:
    """A `send` that gives the model's name back as it was asked for."""
    return _Renaming(send, resolved, key) if resolved.renamed else send


class _Renaming:
    """A stream is changed as it flows; an answer whose length is announced, or that says no, is
    changed as a whole, since its length may change."""

    def __init__(self, send: Send, resolved: Resolved, key: str) -> None:
        self._send = send
        self._resolved = resolved
        self._renamer = Renamer(resolved, key)
        self._start: Message | None = None  # held until the new length is known
        self._whole: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {key.lower() for key, _ in message.get("headers", ())}
            if b"content-length" in names or message["status"] >= 400:
                self._start = message
                return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        piece, more = message.get("body", b""), message.get("more_body", False)
        if self._start is None:
            piece = self._renamer.feed(piece) + (b"" if more else self._renamer.finish())
            await self._send({**message, "body": piece})
            return
        self._whole.append(piece)
        if not more:
            await self._at_once(self._start, b"".join(self._whole))

    async def _at_once(self, start: Message, whole: bytes) -> None:
        if start["status"] < 400:
            body = self._renamer.feed(whole) + self._renamer.finish()
        else:
            tag, asked = self._resolved.tag, self._resolved.asked
            body = whole.replace(tag.encode(), asked.encode())
        length = (b"content-length", str(len(body)).encode())
        headers = without(start["headers"], b"content-length")
        await self._send({**start, "headers": [*headers, length]})
        await self._send({"type": "http.response.body", "body": body})


def _with_length(scope: Scope, content: bytes) -> Scope:
    """The request's head for a body that has changed."""
    length = (b"content-length", str(len(content)).encode())
    headers = without(scope["headers"], b"content-length", b"transfer-encoding")
    return {**scope, "headers": [*headers, length]}


def _renamed(content: bytes, body: Mapping[str, Any], key: str, resolved: Resolved) -> bytes:
    """The request with the live version's tag in the place of the name that was asked for.

    Nothing else of it changes, unless it writes the name in a way that cannot be told apart.
    """
    written = re.escape(json.dumps(resolved.asked, ensure_ascii=False).encode())
    pattern = re.compile(rb'("%s"\s*:\s*)%s' % (key.encode(), written))
    tag = json.dumps(resolved.tag).encode()
    if len(pattern.findall(content)) == 1:
        return pattern.sub(lambda match: match[1] + tag, content)
    return as_bytes({**body, key: resolved.tag})


def _parsed(content: bytes) -> Mapping[str, Any]:
    """The JSON object; an empty one for what is none: the runtime will say what is wrong."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _is_on(scope: Scope, name: bytes) -> bool:
    return header(scope, name).strip().lower() not in _OFF


def _client(scope: Scope, body: Mapping[str, Any]) -> str:
    """Who asks: as the client says it, else the user it names, else the program it is."""
    for name in (CLIENT, b"x-openwebui-user-id"):
        if said := header(scope, name).strip():
            return said[:200]
    if isinstance(body.get("user"), str) and body["user"]:
        return str(body["user"])[:200]
    return header(scope, b"user-agent").partition(" ")[0][:200]
