"""/ollama-ft/…: how the log does, what became of an exchange, and a place to leave feedback.

    GET  /ollama-ft/status
    GET  /ollama-ft/exchanges/ID     waiting, acknowledged, stored, lost
    POST /ollama-ft/feedback         {"id": …, "rating": "up" | "down", "correct": "…", "by": "…"}

ID is what an answer's X-Ollama-FT-Exchange header says, or the number that `logs` shows.
"""

import asyncio
import json
import sqlite3
from typing import Any

from ollama_ft.core.errors import BadInput, FtError, NotFound
from ollama_ft.core.exchange import Rated, verdict_of
from ollama_ft.core.logbook import find_exchange, open_log
from ollama_ft.serve.asgi import App, Receive, Scope, Send, answer, body_of
from ollama_ft.serve.librarian import Librarian
from ollama_ft.serve.writer import LOST, Writer

PREFIX = "/ollama-ft/"
_STATUS, _FEEDBACK, _EXCHANGE = f"{PREFIX}status", f"{PREFIX}feedback", f"{PREFIX}exchanges/"
_BODY_LIMIT = 1 << 20  # bytes of feedback


class Desk:
    """The application around the proxy that answers for these paths."""

    def __init__(
        self,
        app: App,
        writer: Writer | None,
        facts: dict[str, object],
        librarian: Librarian | None = None,
    ) -> None:
        self.app = app
        self.writer = writer
        self.librarian = librarian
        self.facts = facts  # what never changes: address, runtime, whether it redacts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        try:
            body, status = await self._answer(scope, receive)
        except BadInput as error:
            body, status = {"error": str(error)}, 400
        except NotFound as error:
            body, status = {"error": str(error)}, 404
        except FtError as error:
            body, status = {"error": str(error)}, 500
        except sqlite3.Error as error:
            body, status = {"error": f"the log cannot be read now: {error}"}, 503
        await answer(send, body, status)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[dict[str, object], int]:
        asked = (scope["method"], scope["path"])
        if asked == ("GET", _STATUS):
            return self.status(), 200
        if self.writer is None:
            return {"error": "nothing is logged here: serve runs with --no-log"}, 404
        if asked == ("POST", _FEEDBACK):
            content = await body_of(receive, _BODY_LIMIT)
            return await self._feedback(self.writer, content), 200
        if scope["method"] == "GET" and scope["path"].startswith(_EXCHANGE):
            uid = scope["path"].removeprefix(_EXCHANGE)
            return {"id": uid, "state": await self._state(self.writer, uid)}, 200
        return {"error": f"there is no {' '.join(asked)}"}, 404

    def status(self) -> dict[str, object]:
        """Every figure about the log since it was begun, and what is the matter with it."""
        writer = self.writer
        facts = self.facts | {"rag_trouble": self.librarian.trouble if self.librarian else ""}
        if writer is None:
            return facts | {"logging": False}
        losses = writer.counts.losses
        return facts | {
            "logging": True,
            "begun": writer.counts.get("begun"),
            "acknowledged": writer.acknowledged,
            "waiting": writer.waiting,
            "spooled_bytes": writer.spooled,
            "lost": losses.total,
            "lost_queue_full": losses.full,
            "lost_unwritten": losses.unwritten,
            "lost_killed": losses.killed,
            "lost_feedback": losses.feedback,
            "trouble": writer.trouble,
        }

    async def _state(self, writer: Writer, uid: str) -> str:
        if known := writer.state(uid):
            return known
        await self._uid(writer, uid)
        return "stored"

    async def _feedback(self, writer: Writer, content: bytes | None) -> dict[str, object]:
        body = _feedback_body(content)
        ref = str(body.get("id", ""))
        uid = ref if writer.state(ref) not in ("", LOST) else await self._uid(writer, ref)
        verdict = verdict_of(
            _said(body, "rating"), _said(body, "correct"), _said(body, "by") or "http"
        )
        if not writer.offer(Rated(uid=uid, verdict=verdict)):
            raise FtError("The queue is full; the feedback was not taken.")
        return {"id": uid, "rating": verdict.rating}

    async def _uid(self, writer: Writer, ref: str) -> str:
        """The uid of an exchange that is in the log. Raises NotFound, BadInput."""

        def look() -> str:
            db = open_log(writer.keeping.path, busy_ms=1000)
            try:
                return find_exchange(db, ref).uid
            finally:
                db.close()

        return await asyncio.to_thread(look)


def _feedback_body(content: bytes | None) -> dict[str, Any]:
    if content is None:
        raise BadInput("The feedback is too long.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BadInput('The feedback is no JSON object like {"id": "…", "rating": "up"}.')
    return body


def _said(body: dict[str, Any], key: str) -> str:
    value = body.get(key) or ""
    if not isinstance(value, str):
        raise BadInput(f"{key!r} must be a text.")
    return value
