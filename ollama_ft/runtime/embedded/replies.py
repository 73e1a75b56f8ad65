"""Answers in the form that Ollama's Go code gives them: JSON, lines of JSON, errors, times."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.store import go_json

Json = Mapping[str, object]
Lines = AsyncGenerator[Json, None]
Result = TypeVar("Result")

JSON_TYPE = "application/json; charset=utf-8"
BARE_JSON_TYPE = "application/json"  # what Ollama's waiting and /v1 code writes
LINES_TYPE = "application/x-ndjson"


def reply(body: object, status: int = 200, media_type: str = JSON_TYPE) -> Response:
    """A JSON answer, without the newline that Go puts at the end of a line."""
    return Response(go_json(body)[:-1], status, media_type=media_type)


def refusal(error: RuntimeRefused, media_type: str = JSON_TYPE) -> Response:
    """An error as every /api route gives it."""
    return reply({"error": str(error)}, error.status or 500, media_type)


async def stream_reply(lines: Lines, error_type: str = BARE_JSON_TYPE) -> Response:
    """Lines of JSON as they come. An error that comes first is an answer of its own, with its
    status; a later one is the last line of an answer that says 200, as in Ollama."""
    try:
        first = await anext(lines)
    except RuntimeRefused as error:
        return refusal(error, error_type)
    return StreamingResponse(_encoded(first, lines), media_type=LINES_TYPE)


async def last_reply(lines: Lines) -> Response:
    """The last line alone, for a request with `"stream": false`."""
    body: Json = {}
    try:
        async for line in lines:
            body = line
    except RuntimeRefused as error:
        return refusal(error, BARE_JSON_TYPE)
    return reply(body, media_type=BARE_JSON_TYPE)


async def whole(request: Request, lines: Lines) -> Json:
    """All lines as one."""

    async def collect() -> Json:
        return joined([line async for line in lines])

    return await while_there(request, collect(), lines)


async def while_there(
    request: Request, awaited: Coroutine[object, object, Result], lines: Lines
) -> Result:
    """What is awaited. A caller who hangs up ends the work.

    Raises RuntimeRefused (499), which nobody reads any more.
    """
    work = asyncio.create_task(awaited)
    gone = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await lines.aclose()
            raise RuntimeRefused("client closed the request", status=499)
        return await work
    finally:
        gone.cancel()
        work.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def joined(lines: Sequence[Json]) -> Json:
    """All lines of an answer as the one that `"stream": false` gets: texts and rows add up."""
    last: dict[str, object] = dict(lines[-1]) if lines else {"done": False}
    for key in ("response", "thinking"):
        said = "".join(str(line.get(key, "")) for line in lines)
        if key in last or said:
            last[key] = said
    if "message" in last:
        last["message"] = _joined_message(lines)
    rows: list[object] = []
    for line in lines:
        found = line.get("logprobs")
        rows += found if isinstance(found, list) else []
    return last | ({"logprobs": rows} if rows else {})


def _joined_message(lines: Sequence[Json]) -> Json:
    messages = [found for line in lines if isinstance(found := line["message"], dict)]
    content = "".join(message.get("content", "") for message in messages)
    thinking = "".join(message.get("thinking", "") for message in messages)
    said = {**messages[-1], "content": content}
    return said | ({"thinking": thinking} if thinking else {})


async def _encoded(first: Json, lines: Lines) -> AsyncIterator[bytes]:
    async with aclosing(lines):
        yield go_json(first)
        try:
            async for line in lines:
                yield go_json(line)
        except RuntimeRefused as error:
            yield go_json({"error": str(error)})


def now() -> str:
    """The time as Go prints it: RFC 3339 in UTC, with nanoseconds."""
    return _printed(time.time_ns())


def moment(seconds: float) -> str:
    """A time in seconds since 1970, printed like `now`."""
    return _printed(round(seconds * 1e9))


def far_future() -> str:
    """When a model that is kept for ever expires: 292 years on, the end of Go's durations."""
    return (datetime.now(UTC) + timedelta(days=292 * 365.25)).isoformat().replace("+00:00", "Z")


def _printed(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
