"""Requests, checked: from the JSON of a body to what is asked for, with Ollama's words where it is
refused."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from ollama_ft.core.errors import BadInput, RuntimeRefused
from ollama_ft.core.words import without_halves
from ollama_ft.runtime.names import Name

Json = Mapping[str, object]
Kind = TypeVar("Kind")

BODY_LIMIT = 64 << 20  # bytes; a conversation, not a file
_GO_KINDS = {
    str: "string",
    int: "number",
    float: "number",
    bool: "bool",
    list: "array",
    dict: "object",
}
_GO_TYPES: Mapping[type, str] = {
    str: "string",
    int: "int",
    bool: "bool",
    list: "[]string",
    dict: "map[string]interface {}",
}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # a surrogate, which may stand alone
_LEVELS = ("high", "medium", "low", "max")
_MOST_LOGPROBS = 20


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How an answer is wanted: what generate and chat have in common."""

    model: str
    stream: bool = True
    options: Json = field(default_factory=dict)
    format: object = None  # "json", or a JSON schema
    keep_alive: float | None = None  # seconds; None: as the server is set
    think: bool | str | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    truncate: bool = True
    debug: bool = False  # render the prompt, and answer with it


@dataclass(frozen=True, kw_only=True)
class GenerateAsk:
    """A request to /api/generate."""

    manner: Manner
    prompt: str = ""
    suffix: str = ""
    system: str | None = None
    template: str | None = None
    context: tuple[int, ...] = ()
    raw: bool = False
    images: int = 0


@dataclass(frozen=True, kw_only=True)
class ChatAsk:
    """A request to /api/chat. Messages and tools are kept as the client sent them."""

    manner: Manner
    messages: tuple[Json, ...] = ()
    tools: tuple[Json, ...] | None = None
    images: int = 0


async def body_of(request: Request) -> Json:
    """The request's JSON object. Raises RuntimeRefused (400) in the words of Go's decoder."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > BODY_LIMIT:
            raise RuntimeRefused("http: request body too large", status=400)
        pieces.append(piece)
    return parse_body(b"".join(pieces))


def parse_body(content: bytes) -> Json:
    """See body_of."""
    if not content.strip():
        raise RuntimeRefused("missing request body", status=400)
    try:
        body = json.loads(content, parse_constant=_no_constant)
    except RecursionError as error:
        raise RuntimeRefused("exceeded max depth", status=400) from error
    except UnicodeDecodeError as error:
        raise RuntimeRefused("invalid character in a text that is not UTF-8", status=400) from error
    except json.JSONDecodeError as error:
        rest = error.doc[error.pos :].strip() if isinstance(error.doc, str) else ""
        if not rest or error.msg.startswith("Unterminated"):
            raise RuntimeRefused("unexpected EOF", status=400) from error
        raise RuntimeRefused(
            f"invalid character '{rest[0]}' looking for beginning of value", status=400
        ) from error
    if not isinstance(body, dict):
        raise RuntimeRefused(
            f"json: cannot unmarshal {_go_kind(body)} into Go value of type api.Request", status=400
        )
    return _without_halves(body) if _HALF.search(content) else body


def generate_ask(body: Json) -> GenerateAsk:
    """Read a request to /api/generate. Raises RuntimeRefused."""
    return GenerateAsk(
        manner=manner_of(body),
        prompt=value(body, "prompt", str, ""),
        suffix=value(body, "suffix", str, ""),
        system=optional(body, "system", str),
        template=optional(body, "template", str),
        context=_numbers(body, "context"),
        raw=value(body, "raw", bool, False),
        images=len(value(body, "images", list, [])),
    )


def chat_ask(body: Json) -> ChatAsk:
    """Read a request to /api/chat. Raises RuntimeRefused."""
    messages = objects(body, "messages")
    for message in messages:
        value(message, "role", str, "")
        value(message, "content", str, "")
    return ChatAsk(
        manner=manner_of(body),
        messages=messages,
        tools=objects(body, "tools") if body.get("tools") else None,
        images=sum(len(value(message, "images", list, [])) for message in messages),
    )


def manner_of(body: Json) -> Manner:
    """Read what generate and chat have in common. Raises RuntimeRefused."""
    top = value(body, "top_logprobs", int, 0)
    if not 0 <= top <= _MOST_LOGPROBS:
        raise RuntimeRefused("top_logprobs must be between 0 and 20", status=400)
    return Manner(
        model=value(body, "model", str, ""),
        stream=value(body, "stream", bool, True),
        options=value(body, "options", dict, {}),
        format=body.get("format") or None,
        keep_alive=seconds(body.get("keep_alive")),
        think=_think(body.get("think")),
        logprobs=value(body, "logprobs", bool, False),
        top_logprobs=top,
        truncate=value(body, "truncate", bool, True),
        debug=value(body, "_debug_render_only", bool, False),
    )


def value(body: Json, key: str, kind: type[Kind], default: Kind) -> Kind:
    """A field of one type; the default if it is absent or null. Raises RuntimeRefused (400) for
    another type."""
    found = optional(body, key, kind)
    return default if found is None else found


def optional(body: Json, key: str, kind: type[Kind]) -> Kind | None:
    """A field of one type; None if it is absent or null. Raises RuntimeRefused (400) for another
    type."""
    found = body.get(key)
    if found is None:
        return None
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise RuntimeRefused(
            f"json: cannot unmarshal {_go_kind(found)} into Go struct field .{key} of type "
            f"{_GO_TYPES.get(kind, kind.__name__)}",
            status=400,
        )
    return found


def objects(body: Json, key: str) -> tuple[Json, ...]:
    """A list of objects. Raises RuntimeRefused (400) for something else."""
    found = value(body, key, list, [])
    for item in found:
        optional({key: item}, key, dict)
    return tuple(found)


def texts(body: Json, key: str) -> dict[str, str]:
    """An object whose values are all texts. Raises RuntimeRefused (400) for something else."""
    found: dict[str, object] = value(body, key, dict, {})
    return {name: value({key: item}, key, str, "") for name, item in found.items()}


def parsed_name(called: str) -> Name:
    """The name of a model to make or to move. Raises RuntimeRefused (400)."""
    try:
        return Name.parse(called)
    except BadInput as error:
        raise RuntimeRefused("invalid model name", status=400) from error


def seconds(wish: object) -> float | None:
    """keep_alive: a number of seconds or a Go duration like "5m"; below zero for ever; None if
    absent."""
    if wish is None:
        return None
    if isinstance(wish, int | float) and not isinstance(wish, bool):
        number = float(wish)
    elif isinstance(wish, str):
        number = _duration(wish)
    else:
        raise RuntimeRefused(f"Unsupported type: {_go_kind(wish)}", status=400)
    return math.inf if number < 0 else number


def _duration(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text.lstrip("+-")
    if rest == "0":
        return 0.0
    parts = _DURATION.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        what = "missing unit in" if re.fullmatch(r"[\d.]+", rest) else "invalid"
        raise RuntimeRefused(f'time: {what} duration "{text}"', status=400)
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _without_halves(found: Any) -> Any:
    """Half surrogates become U+FFFD, as in Go; no bytes could carry them."""
    if isinstance(found, str):
        return without_halves(found)
    if isinstance(found, dict):
        return {_without_halves(key): _without_halves(item) for key, item in found.items()}
    return [_without_halves(item) for item in found] if isinstance(found, list) else found


def _think(wish: object) -> bool | str | None:
    if wish is None or isinstance(wish, bool):
        return wish
    if not isinstance(wish, str):
        said = f"think must be a boolean or string, got {_go_kind(wish)}"
        raise RuntimeRefused(said, status=400)
    if wish not in _LEVELS:
        choices = '"high", "medium", "low", "max", true, or false'
        raise RuntimeRefused(f'invalid think value: "{wish}" (must be {choices})', status=400)
    return wish


def _numbers(body: Json, key: str) -> tuple[int, ...]:
    found: Sequence[object] = value(body, key, list, [])
    return tuple(value({key: item}, key, int, 0) for item in found)


def _go_kind(found: object) -> str:
    return _GO_KINDS.get(type(found), "value")


def _no_constant(name: str) -> object:
    raise json.JSONDecodeError("not in JSON", name, 0)
