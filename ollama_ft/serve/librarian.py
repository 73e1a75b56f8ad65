"""`serve --rag FAMILY`: what the family's documents hold about a question, put behind it.

The question changes on its way to the runtime alone. The log keeps it as it was asked, and the
passages beside it with their chunks' ids; the answer carries nothing of it.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from ollama_ft.core.catalog import open_catalog
from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import FtError
from ollama_ft.core.events import Emit, Note
from ollama_ft.core.home import Home
from ollama_ft.kinds.context import Passage, with_context
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.heard import CHAT, V1_CHAT

Body = Mapping[str, Any]

PASSAGES = 5
WAIT_SECONDS = 10.0  # then the question goes on without passages
_THREADS = 4


class Finds(Protocol):
    """What finds the passages for a question of a family's."""

    def __call__(self, family: str, question: str) -> list[Passage]:
        """The best passages, best first. Raises FtError."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A request with passages in it, and what the log keeps of them."""

    body: Body
    context: tuple[Mapping[str, object], ...]


class Librarian:
    """Looks passages up in threads of its own, for the families that it is told."""

    def __init__(self, families: Sequence[str], find: Finds) -> None:
        self.families = frozenset(families)
        self.trouble = ""  # why the last question went on without passages; "" if it did not
        self._find = find
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rag")

    async def furnish(self, family: str, path: str, body: Body) -> Found | None:
        """The request with what was found for its question; None if nothing is to be put there.

        Never fails: a question whose passages cannot be looked up goes on as it is.
        """
        question = question_of(path, body) if family in self.families else ""
        if not question.strip():
            return None
        look = asyncio.get_running_loop().run_in_executor(
            self._threads, self._find, family, question
        )
        try:
            passages = await asyncio.wait_for(look, WAIT_SECONDS)
        except TimeoutError:
            self.trouble = f"nothing was found within {WAIT_SECONDS:g} seconds"
            return None
        except Exception as error:  # whatever is the matter with documents, the answer must flow
            self.trouble = str(error)
            return None
        self.trouble = ""
        if not passages:
            return None
        return Found(
            body=furnished(path, body, question, passages),
            context=tuple(_kept(passage) for passage in passages),
        )

    def close(self) -> None:
        """End the threads; a search that still runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def finder(home: Home, client: Ollama, emit: Emit) -> Finds:
    """What looks in the home's catalog, by words and by meaning; by words alone, if the runtime
    has no embedding model, which `emit` is told once."""
    told: set[str] = set()

    def once(event: object) -> None:
        if isinstance(event, Note) and event.text not in told:
            told.add(event.text)
            emit(event)

    def find(family: str, question: str) -> list[Passage]:
        from ollama_ft.serve.knowledge import retrieve

        db = open_catalog(home.catalog)
        try:
            return retrieve(db, home, client, family, question, PASSAGES, emit=once)
        except FtError as error:
            once(Note(text=f"passages are found by words alone: {error}"))
            return retrieve(db, home, None, family, question, PASSAGES, emit=once)
        finally:
            db.close()

    return find


def question_of(path: str, body: Body) -> str:
    """The user's last words; "" where there are none, or where nothing may be put behind them."""
    if path in (CHAT, V1_CHAT):
        message = _asked(body)
        return _said(message.get("content")) if message else ""
    # A raw prompt is the model's own language, and one with a suffix is code to be filled in.
    prompt = "" if body.get("raw") or body.get("suffix") else body.get("prompt")
    return prompt if isinstance(prompt, str) else ""


def furnished(path: str, body: Body, question: str, passages: Sequence[Passage]) -> Body:
    """The request with the passages behind its question; all else of it as it was."""
    (message,) = with_context([Message(role="user", content=question)], passages)
    if path not in (CHAT, V1_CHAT):
        return {**body, "prompt": message.content}
    asked = _asked(body)
    assert asked is not None, "a question was found there"
    changed = {**asked, "content": _replaced(asked["content"], message.content)}
    return {**body, "messages": [changed if m is asked else m for m in body["messages"]]}


def _asked(body: Body) -> Body | None:
    """The last message of the user's."""
    rows = body["messages"] if isinstance(body.get("messages"), list) else []
    users = (m for m in reversed(rows) if isinstance(m, dict) and m.get("role") == "user")
    return next(users, None)


def _said(content: object) -> str:
    """The text of a content; of OpenAI's list of parts, the last text."""
    if isinstance(content, list):
        return next((p["text"] for p in reversed(content) if _is_text(p)), "")
    return content if isinstance(content, str) else ""


def _replaced(content: object, text: str) -> object:
    if not isinstance(content, list):
        return text
    last = next(p for p in reversed(content) if _is_text(p))
    return [{**p, "text": text} if p is last else p for p in content]


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _kept(passage: Passage) -> Mapping[str, object]:
    """A passage as the log has it: enough to put the prompt together again."""
    return {
        "chunk": passage.chunk,
        "path": passage.path,
        "title": passage.title,
        "heading": passage.heading,
        "page": passage.page,
        "text": passage.text,
        "score": round(passage.score, 6),
        "found_by": list(passage.found_by),
    }


def as_bytes(body: Body) -> bytes:
    """The request as it is sent on; half a surrogate pair stays the escape that it came as."""
    return json.dumps(body).encode()
