"""From the bytes of a request and its answer to an exchange: the four paths that are understood.

Works on copies, after the answer is long on its way; what it is given may be hostile or half.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ollama_ft.core.exchange import COMPLETE, FAILED, INCOMPLETE, Heard, Turn

Json = Mapping[str, object]

CHAT, GENERATE = "/api/chat", "/api/generate"
V1_CHAT, V1_COMPLETIONS = "/v1/chat/completions", "/v1/completions"
UNDERSTOOD = frozenset({CHAT, GENERATE, V1_CHAT, V1_COMPLETIONS})

# What becomes turns; `context` is a list of tokens that only the runtime understands.
_SAID = frozenset({"model", "messages", "prompt", "system", "images", "context"})
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(kw_only=True)
class Overheard:
    """What the proxy kept of one request while it passed it on. Filled by the event loop."""

    uid: str
    at: str
    path: str
    body: Json  # of the request, as the client sent it
    client: str
    family: str
    version: str
    version_digest: str
    context: tuple[Json, ...] = ()
    status: int = 0  # of HTTP; 0: no answer came
    asked: int = 0  # bytes of the request
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0  # bytes of all pieces
    cut: bool = False  # there was more than is kept
    error: str = ""
    first_ms: float | None = None
    total_ms: float | None = None


@dataclass(kw_only=True)
class _Answer:
    """The answer as it adds up, line by line."""

    content: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)
    done: bool = False
    done_reason: str = ""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    error: str = ""


def is_question(path: str, body: Json) -> bool:
    """Whether a request asks something: not one that only loads, unloads or renders."""
    if body.get("_debug_render_only"):
        return False
    if path in (CHAT, V1_CHAT):
        return isinstance(body.get("messages"), list) and bool(body["messages"])
    prompt = body.get("prompt")
    return isinstance(prompt, str | list) and bool(prompt)


def hear(kept: Overheard) -> Heard:
    """The exchange. One that broke off, or was kept only in part, is incomplete."""
    answer = _Answer()
    for line in _lines(kept):
        _take(answer, kept.path, line)
    content, thinking = _apart(answer)
    extra = {"tool_calls": answer.calls} if answer.calls else {}
    status = _status(kept, answer)
    said = status != FAILED and bool(content or answer.calls or answer.done)
    return Heard(
        uid=kept.uid,
        at=kept.at,
        family=kept.family,
        version=kept.version,
        version_digest=kept.version_digest,
        model=_text(kept.body.get("model")),
        client=kept.client,
        path=kept.path,
        turns=tuple(turns_of(kept.path, kept.body)),
        reply=Turn(role="assistant", content=content, extra=extra) if said else None,
        thinking=thinking,
        options={name: value for name, value in kept.body.items() if name not in _SAID},
        context=kept.context,
        first_ms=kept.first_ms,
        total_ms=kept.total_ms,
        prompt_tokens=answer.prompt_tokens,
        answer_tokens=answer.answer_tokens,
        done_reason=answer.done_reason,
        status=status,
        error=kept.error or answer.error or (_silent(kept) if status == FAILED else ""),
    )


def _status(kept: Overheard, answer: _Answer) -> str:
    if kept.status == 0 or kept.status >= 400:
        return FAILED
    return COMPLETE if answer.done and not kept.cut and not answer.error else INCOMPLETE


def _silent(kept: Overheard) -> str:
    """Why there is no answer, where nobody said it."""
    return f"HTTP status {kept.status}" if kept.status else "the client went away before an answer"


# The request


def turns_of(path: str, body: Json) -> list[Turn]:
    """The messages of a request, oldest first. What is no message is passed over."""
    if path in (CHAT, V1_CHAT):
        messages = body.get("messages")
        rows = messages if isinstance(messages, list) else []
        return [_turn(row) for row in rows if isinstance(row, dict)] or [_EMPTY]
    system = body.get("system")
    first = [Turn(role="system", content=system)] if isinstance(system, str) and system else []
    prompt = body.get("prompt")
    text = "\n".join(map(str, prompt)) if isinstance(prompt, list) else str(prompt or "")
    images = _pictures(body.get("images"))
    return [*first, Turn(role="user", content=text, extra={"images": images} if images else {})]


_EMPTY = Turn(role="user", content="")


def _turn(row: Json) -> Turn:
    role = str(row.get("role", "user"))
    content, pictures = _content(row.get("content"))
    pictures += _pictures(row.get("images"))
    extra: dict[str, object] = {"images": pictures} if pictures else {}
    for name in ("tool_calls", "tool_call_id", "tool_name", "name", "thinking"):
        if row.get(name):
            extra[name] = row[name]
    return Turn(role=role if role in _ROLES else "user", content=content, extra=extra)


def _content(content: object) -> tuple[str, list[object]]:
    """Text and images of a content that is a text or OpenAI's list of parts."""
    if not isinstance(content, list):
        return ("" if content is None else str(content)), []
    texts, pictures = [], []
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and isinstance(part.get("image_url"), dict):
            pictures += _pictures([part["image_url"].get("url", "")])
    return "\n".join(texts), pictures


def _pictures(images: object) -> list[object]:
    """Digests instead of images, which the log does not keep."""
    rows = images if isinstance(images, list) else []
    return [
        {"sha256": hashlib.sha256(row.encode()).hexdigest(), "characters": len(row)}
        for row in rows
        if isinstance(row, str)
    ]


# The answer


def _lines(kept: Overheard) -> Iterator[Json]:
    """Each JSON object of the answer: lines of JSON, events of a stream, or one object."""
    for raw in b"".join(kept.pieces).split(b"\n"):
        line = raw.removeprefix(b"data:").strip()
        if line == b"[DONE]":
            yield {"done": True}
        elif line.startswith(b"{"):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue  # half a line, where it broke off
            if isinstance(found, dict):
                yield found


def _take(answer: _Answer, path: str, line: Json) -> None:
    if line.get("error"):
        answer.error = _words(line["error"])
    if path in (CHAT, GENERATE):
        _take_ollama(answer, line)
    else:
        _take_openai(answer, line)


def _take_ollama(answer: _Answer, line: Json) -> None:
    message = line.get("message")
    said = message if isinstance(message, dict) else line
    answer.content.append(_text(said.get("content")) + _text(line.get("response")))
    answer.thinking.append(_text(said.get("thinking")))
    calls = said.get("tool_calls")
    answer.calls += calls if isinstance(calls, list) else []
    if line.get("done"):
        answer.done = True
        answer.done_reason = _text(line.get("done_reason"))
        answer.prompt_tokens = _count(line.get("prompt_eval_count"))
        answer.answer_tokens = _count(line.get("eval_count"))


def _take_openai(answer: _Answer, line: Json) -> None:
    usage = line.get("usage")
    if isinstance(usage, dict):
        answer.prompt_tokens = _count(usage.get("prompt_tokens"))
        answer.answer_tokens = _count(usage.get("completion_tokens"))
    choice = _first(line.get("choices"))
    said = next((c for name in ("delta", "message") if isinstance(c := choice.get(name), dict)), {})
    answer.content.append(_content(said.get("content"))[0] + _text(choice.get("text")))
    answer.thinking.append(_text(said.get("reasoning")) or _text(said.get("reasoning_content")))
    _add_calls(answer.calls, said.get("tool_calls"))
    if choice.get("finish_reason"):
        answer.done = True
        answer.done_reason = _text(choice["finish_reason"])
    answer.done = answer.done or line.get("done") is True


def _first(choices: object) -> Json:
    """The first of several answers, whichever of them a piece belongs to."""
    rows = choices if isinstance(choices, list) else []
    return next((c for c in rows if isinstance(c, dict) and c.get("index", 0) == 0), {})


def _add_calls(calls: list[object], pieces: object) -> None:
    """Add pieces of tool calls: their arguments come in parts, told apart by an index."""
    for piece in pieces if isinstance(pieces, list) else []:
        if not isinstance(piece, dict):
            continue
        index, known = piece.get("index"), None
        if isinstance(index, int):
            known = next((c for c in calls if isinstance(c, dict) and c["index"] == index), None)
        if known is None:
            calls.append({"index": len(calls)} | piece)
            continue
        old, new = known.get("function"), piece.get("function")
        if isinstance(old, dict) and isinstance(new, dict):
            text = _text(old.get("arguments")) + _text(new.get("arguments"))
            known["function"] = old | {"arguments": text}


def _apart(answer: _Answer) -> tuple[str, str]:
    """Content and thinking, where a runtime left the thinking at the head of the content."""
    content, thinking = "".join(answer.content), "".join(answer.thinking)
    head = content.lstrip()
    if not head.startswith(_THINK_OPEN):
        return content, thinking
    thought, closed, rest = head.removeprefix(_THINK_OPEN).partition(_THINK_CLOSE)
    if not closed:
        return "", thinking + thought
    return rest.lstrip(), thinking + thought.strip()


def _words(error: object) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return str(said)[:500]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    """The number, if it is a whole one that SQLite can hold."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    return None
