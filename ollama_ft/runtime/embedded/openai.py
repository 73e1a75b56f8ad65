"""/v1: OpenAI's shapes around the same models."""

import base64
import secrets
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.asks import Json, optional, value
from ollama_ft.runtime.embedded.embed import EmbedAsk, Embedded, single
from ollama_ft.runtime.embedded.replies import BARE_JSON_TYPE, JSON_TYPE, reply
from ollama_ft.runtime.store import go_json

Lines = AsyncGenerator[Json, None]

# OpenAI's field -> Ollama's option.
_OPTIONS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
}
_KINDS = {400: "invalid_request_error", 404: "not_found_error"}
_EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "low": "low",
    "medium": "medium",
    "high": "high",
}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What every chunk of one answer repeats."""

    id: str
    kind: str  # chat.completion | text_completion
    model: str
    created: int
    usage: bool  # stream_options.include_usage
    logprobs: bool


def error_reply(error: RuntimeRefused, media_type: str = JSON_TYPE) -> Response:
    """An error as the /v1 routes give it."""
    status = error.status or 500
    body = {
        "message": str(error),
        "type": _KINDS.get(status, "api_error"),
        "param": None,
        "code": None,
    }
    return reply({"error": body}, status, media_type)


def chat_body(body: Json) -> Json:
    """A request to /v1/chat/completions as one to /api/chat. Raises RuntimeRefused (400)."""
    messages = value(body, "messages", list, [])
    if not messages:
        raise RuntimeRefused("[] is too short - 'messages'", status=400)
    asked = {
        "messages": [_message(message) for message in messages],
        "format": _format(body),
        "tools": body.get("tools"),
        "logprobs": body.get("logprobs"),
        "top_logprobs": body.get("top_logprobs"),
    }
    if optional(body, "reasoning_effort", str):
        asked["think"] = _EFFORTS.get(str(body["reasoning_effort"]))
    return _common(body) | asked


def completion_body(body: Json) -> Json:
    """A request to /v1/completions as one to /api/generate. Raises RuntimeRefused (400)."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return _common(body) | {"prompt": prompt, "suffix": body.get("suffix")}


def frame_of(body: Json, kind: str, prefix: str) -> Frame:
    """What the answer's chunks will repeat."""
    options = value(body, "stream_options", dict, {})
    return Frame(
        id=f"{prefix}-{secrets.randbelow(1000)}",
        kind=kind,
        model=value(body, "model", str, ""),
        created=int(time.time()),
        usage=bool(options.get("include_usage")),
        logprobs=bool(body.get("logprobs")),
    )


def chat_reply(frame: Frame, line: Json) -> Json:
    """A whole answer of /api/chat in OpenAI's shape."""
    message = line["message"]
    assert isinstance(message, dict)
    said = {"role": message["role"], "content": message["content"]}
    said |= {"reasoning": message["thinking"]} if "thinking" in message else {}
    return _whole(frame, line, {"index": 0, "message": said})


def completion_reply(frame: Frame, line: Json) -> Json:
    """A whole answer of /api/generate in OpenAI's shape."""
    return _whole(frame, line, {"text": line["response"], "index": 0})


async def chat_chunks(frame: Frame, lines: Lines) -> AsyncIterator[bytes]:
    """Lines of /api/chat as OpenAI's events."""
    first = True
    async for line in lines:
        message = line["message"]
        assert isinstance(message, dict)
        delta: dict[str, object] = {"role": "assistant"} if first else {}
        if not line["done"] or message["content"]:
            delta["content"] = message["content"]
        if "thinking" in message:
            delta["reasoning"] = message["thinking"]
        first = False
        choice = {"index": 0, "delta": delta, "finish_reason": line.get("done_reason")}
        yield _event(_chunk(frame, choice | _probabilities(frame, line)))
        if line["done"]:
            yield _ending(frame, line)


async def completion_chunks(frame: Frame, lines: Lines) -> AsyncIterator[bytes]:
    """Lines of /api/generate as OpenAI's events."""
    async for line in lines:
        choice = {"text": line["response"], "index": 0, "finish_reason": line.get("done_reason")}
        yield _event(_chunk(frame, choice))
        if line["done"]:
            yield _ending(frame, line)


async def stream_events(
    frame: Frame, lines: Lines, shape: Callable[[Frame, Lines], AsyncIterator[bytes]]
) -> Response:
    """Events as they come. An error that comes first is an answer of its own, with its status."""
    events = shape(frame, lines)
    try:
        first = await anext(events, b"")
    except RuntimeRefused as error:
        return error_reply(error, BARE_JSON_TYPE)
    # Starlette would add a charset to a media type, which Ollama does not.
    headers = {"content-type": "text/event-stream"}
    return StreamingResponse(_all(first, events, lines), headers=headers)


def embeddings_ask(body: Json) -> EmbedAsk:
    """A request to /v1/embeddings. Raises RuntimeRefused (400)."""
    wish = body.get("input")
    texts = (wish,) if isinstance(wish, str) else tuple(wish) if isinstance(wish, list) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise RuntimeRefused("invalid input", status=400)
    return EmbedAsk(
        model=value(body, "model", str, ""),
        texts=texts,
        dimensions=max(value(body, "dimensions", int, 0), 0),
    )


def embeddings_reply(body: Json, ask: EmbedAsk, done: Embedded) -> Json:
    """Embeddings in OpenAI's shape, as numbers or as base64 of little-endian float32."""
    as_text = body.get("encoding_format") == "base64"
    rows = [
        {
            "object": "embedding",
            "embedding": _packed(vector) if as_text else single(vector),
            "index": n,
        }
        for n, vector in enumerate(done.vectors)
    ]
    usage = {"prompt_tokens": done.tokens, "total_tokens": done.tokens}
    return {"object": "list", "data": rows, "model": ask.model, "usage": usage}


async def _all(first: bytes, rest: AsyncIterator[bytes], lines: Lines) -> AsyncIterator[bytes]:
    try:
        yield first
        async for event in rest:
            yield event
    except RuntimeRefused as error:
        yield _event({"error": {"message": str(error), "type": "api_error"}})
    finally:
        await lines.aclose()


def _ending(frame: Frame, line: Json) -> bytes:
    """What follows the last event; not there where an answer broke off, as in Ollama."""
    usage = _event(_chunk(frame, None) | {"usage": _usage(line)}) if frame.usage else b""
    return usage + b"data: [DONE]\n\n"


def _whole(frame: Frame, line: Json, choice: Json) -> Json:
    reason = {"finish_reason": line.get("done_reason")}
    return _head(frame) | {
        "choices": [{**choice, **reason, **_probabilities(frame, line)}],
        "usage": _usage(line),
    }


def _chunk(frame: Frame, choice: Json | None) -> dict[str, object]:
    kind = "chat.completion.chunk" if frame.kind == "chat.completion" else frame.kind
    return _head(frame) | {"object": kind, "choices": [] if choice is None else [choice]}


def _head(frame: Frame) -> dict[str, object]:
    return {
        "id": frame.id,
        "object": frame.kind,
        "created": frame.created,
        "model": frame.model,
        "system_fingerprint": "fp_ollama",
    }


def _usage(line: Json) -> Json:
    prompt, answer = line.get("prompt_eval_count", 0), line.get("eval_count", 0)
    assert isinstance(prompt, int) and isinstance(answer, int)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _probabilities(frame: Frame, line: Json) -> dict[str, object]:
    return (
        {"logprobs": {"content": line["logprobs"]}} if frame.logprobs and "logprobs" in line else {}
    )


def _event(chunk: Json) -> bytes:
    return b"data: " + go_json(chunk) + b"\n"


def _common(body: Json) -> dict[str, object]:
    options: dict[str, object] = {"temperature": 1.0, "top_p": 1.0}  # OpenAI's defaults
    options |= {
        ours: body[theirs] for theirs, ours in _OPTIONS.items() if body.get(theirs) is not None
    }
    stop = body.get("stop")
    if stop:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return {
        "model": body.get("model"),
        "stream": bool(body.get("stream", False)),
        "options": options,
        "_debug_render_only": body.get("_debug_render_only"),
    }


def _message(message: object) -> Json:
    """Content may be a list of parts, of which the texts are joined and the pictures counted."""
    if not isinstance(message, dict):
        raise RuntimeRefused("invalid message format", status=400)
    content = message.get("content")
    if not isinstance(content, list):
        return {**message, "content": content or ""}
    parts = [part for part in content if isinstance(part, dict)]
    text = "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    images = [part.get("image_url") for part in parts if part.get("type") == "image_url"]
    return {**message, "content": text} | ({"images": images} if images else {})


def _format(body: Json) -> object:
    wish = value(body, "response_format", dict, {})
    if wish.get("type") == "json_object":
        return "json"
    schema = wish.get("json_schema")
    return schema.get("schema") if isinstance(schema, dict) else None


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
