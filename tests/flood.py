"""Many short questions as quickly as can be: a runtime of a few lines, and its clients.

As a program it is the runtime: python -m tests.flood PORT [WORDS [WORDS_PER_SECOND]]
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

END = b"\r\n\r\n"


async def runtime(port: int, words: int, rate: float) -> None:
    """Answer each chat with its question, then `words` more, so many in a second (0: at once).

    GET tells how many chats came, so that a test can compare.
    """
    came = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        try:
            while True:
                method, body = await _request(reader)
                if method == b"GET":
                    count = json.dumps({"version": "0.33.0", "came": came}).encode()
                    writer.write(_head(b"Content-Length: %d" % len(count)) + count)
                    continue
                came += 1
                writer.write(_head(b"Transfer-Encoding: chunked"))
                started = time.perf_counter()
                for number, line in enumerate(_lines(json.loads(body), words)):
                    if rate and number:
                        await asyncio.sleep(started + number / rate - time.perf_counter())
                    writer.write(b"%x\r\n%s\r\n" % (len(line), line))
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port, backlog=512)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(END)
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head.partition(b" ")[0], await reader.readexactly(length)


def _head(line: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n" + line + END


def _lines(body: dict[str, object], words: int) -> Iterator[bytes]:
    """In the form of the API that the body's `max_tokens` tells: OpenAI's, or Ollama's."""
    messages = body["messages"]
    assert isinstance(messages, list)
    said = [f"Echo: {messages[-1]['content']}", *(f" w{n}" for n in range(words))]
    if "max_tokens" in body:
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        for word in said:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            yield b"data: %s\n\n" % json.dumps(head | {"choices": [choice]}).encode()
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(head | {"choices": [last]}).encode()
        return
    for number, word in enumerate(said):
        line = {"model": body["model"], "message": {"role": "assistant", "content": word}}
        line["done"] = number == len(said) - 1
        yield json.dumps(line).encode() + b"\n"


@dataclass
class Flood:
    """What came back: seconds to the first byte of a body, ids of exchanges, bytes."""

    first: list[float] = field(default_factory=list)
    uids: dict[str, str] = field(default_factory=dict)  # uid -> question
    pieces: int = 0
    broken: int = 0
    seconds: float = 0.0


async def flood(
    port: int,
    questions: list[str],
    clients: int,
    *,
    path: str = "/api/chat",
    headers: str = "",
    extra: dict[str, object] | None = None,
    seen: Callable[[str], None] | None = None,
) -> Flood:
    """Ask all questions over so many connections. One that breaks asks no more."""
    result, rest = Flood(), iter(questions)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for question in rest:
                message = {"role": "user", "content": question}
                body = json.dumps(
                    {"model": "m", "messages": [message], "stream": True, **(extra or {})}
                )
                content = body.encode()
                started = time.perf_counter()
                writer.write(
                    f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                head = await reader.readuntil(END)
                assert b" 200 " in head.partition(b"\r\n")[0], head
                first = 0.0
                while size := _size(await reader.readline()):
                    await reader.readexactly(size + 2)
                    first = first or time.perf_counter() - started
                    result.pieces += 1
                await reader.readexactly(2)
                result.first.append(first)
                uid = _uid(head)
                if uid:
                    result.uids[uid] = question
                    if seen:
                        seen(uid)
        except (asyncio.IncompleteReadError, ConnectionError):
            result.broken += 1
        finally:
            writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    result.seconds = time.perf_counter() - started
    return result


def _size(line: bytes) -> int:
    """A chunk's size. Raises ConnectionError at the end of the connection."""
    if not line:
        raise ConnectionError("broken off")
    return int(line, 16)


def _uid(head: bytes) -> str:
    _, found, rest = head.lower().partition(b"x-ollama-ft-exchange: ")
    return rest.partition(b"\r\n")[0].decode() if found else ""


if __name__ == "__main__":
    port, words, rate = (*sys.argv[1:], "0", "0")[:3]
    asyncio.run(runtime(int(port), int(words), float(rate)))
