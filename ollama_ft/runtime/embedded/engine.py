"""One llama.cpp process: started, asked over loopback with a key of its own, and ended."""

import asyncio
import json
import logging
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from ollama_ft.core.errors import RuntimeRefused

Json = Mapping[str, object]
_logger = logging.getLogger(__name__)

_LOAD_SECONDS = 300.0  # as Ollama's OLLAMA_LOAD_TIMEOUT
_LOG_LINES = 200
_BATCH = 512  # tokens read at once, as Ollama does
_ENVIRONMENT = {
    # Threads that wait must not spin: on few or busy cores spinning costs more than the work.
    "GOMP_SPINCOUNT": "0",
    "OMP_WAIT_POLICY": "passive",
    "GGML_NO_BACKTRACE": "1",  # a crash must not start a debugger
}
TERMINATED = "llama-server process has terminated: exit status 1"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an engine is started with."""

    base: Path
    adapters: tuple[Path, ...] = ()  # in the order of llama.cpp's adapter numbers
    context: int  # tokens of one slot
    slots: int  # requests answered at the same time
    embedding: bool = False

    def covers(self, other: "Plan") -> bool:
        """Whether an engine with this plan can do what `other` asks for."""
        return (
            self.base == other.base
            and self.embedding == other.embedding
            and self.context >= other.context
            and set(self.adapters) >= set(other.adapters)
        )


class Engine:
    """A running llama.cpp server. Make it with `start_engine`."""

    def __init__(
        self, plan: Plan, process: Process, http: httpx.AsyncClient, log: Sequence[str]
    ) -> None:
        self.plan = plan
        self.running = 0  # requests in it now
        self._process = process
        self._http = http
        self._log = log

    @property
    def is_alive(self) -> bool:
        """Whether its process has not ended."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def scales(self, adapters: Sequence[Path]) -> list[Json]:
        """The `lora` field that turns exactly these adapters on; left out, all would be on."""
        return [
            {"id": number, "scale": float(adapters.count(path))}
            for number, path in enumerate(self.plan.adapters)
        ]

    async def post(self, path: str, body: Json) -> object:
        """POST to the server and read its JSON. Raises RuntimeRefused with the server's words."""
        try:
            response = await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise self._ended() from error
        if response.is_error:
            raise _refusal(response.status_code, response.text)
        return response.json()

    async def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """The text's token ids; `special` adds BOS where the GGUF asks for one. Special tokens are
        read as such in either case."""
        body = {"content": text, "add_special": special, "parse_special": True}
        found = await self.post("/tokenize", body)
        assert isinstance(found, dict)
        return list(found["tokens"])

    async def apply_template(self, messages: Sequence[Json], extra: Json) -> str:
        """The prompt that the GGUF's own Jinja makes of these messages."""
        found = await self.post("/apply-template", {"messages": messages, **extra})
        assert isinstance(found, dict)
        return str(found["prompt"])

    async def complete(self, body: Json) -> AsyncGenerator[Json, None]:
        """Chunks of a completion as they come. Closing the generator ends the work in the server.

        Raises RuntimeRefused for an error of the server, or when its process dies.
        """
        try:
            async with self._http.stream(
                "POST", "/completion", json={**body, "stream": True}
            ) as got:
                if got.is_error:
                    raise _refusal(got.status_code, (await got.aread()).decode(errors="replace"))
                async for line in _lines(got.aiter_bytes()):
                    if line.startswith(b"data: {"):
                        yield _chunk(line[6:])
        except httpx.HTTPError as error:
            raise self._ended() from error

    def _ended(self) -> RuntimeRefused:
        _logger.error("llama.cpp ended with %s:\n%s", self.plan.base, "\n".join(self._log))
        return RuntimeRefused(f"{TERMINATED}{_reason(self._log)}", status=500)

    async def close(self) -> None:
        """End the process and wait until it is gone."""
        await self._http.aclose()
        if self.is_alive:
            _end(self._process)
            await self._process.wait()


async def start_engine(plan: Plan, threads: int) -> Engine:
    """Start a server and wait until it answers.

    Raises RuntimeRefused, in the words of Ollama with llama.cpp's own reason after them, if it does
    not.
    """
    key = secrets.token_hex(16)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("worker.py")),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | _ENVIRONMENT,
        start_new_session=True,  # Ctrl-C is for the one who started us
    )
    log: deque[str] = deque(maxlen=_LOG_LINES)
    listening = asyncio.create_task(_listen(process, log))
    try:
        port = await asyncio.wait_for(_port(process, plan, threads, key), _LOAD_SECONDS)
    except TimeoutError as error:
        _end(process)
        raise RuntimeRefused("timed out waiting for llama-server to start", status=500) from error
    except BaseException:
        _end(process)
        raise
    if port is None:
        await process.wait()
        await listening
        _logger.error("llama.cpp did not start with %s:\n%s", plan.base, "\n".join(log))
        raise RuntimeRefused(f"{TERMINATED}{_reason(log)}", status=500)
    http = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=None,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=plan.slots),
        trust_env=False,
    )
    return Engine(plan, process, http, log)


async def _port(process: Process, plan: Plan, threads: int, key: str) -> int | None:
    """Tell the worker what to do; the port on which it answers, None if it ends instead."""
    assert process.stdin is not None and process.stdout is not None
    wish = {
        "model": str(plan.base),
        "adapters": [str(path) for path in plan.adapters],
        "context": plan.context,
        "slots": plan.slots,
        "embedding": plan.embedding,
        "batch": plan.context if plan.embedding else _BATCH,
        "threads": threads,
        "key": key,
    }
    process.stdin.write(json.dumps(wish).encode() + b"\n")
    await process.stdin.drain()
    line = await process.stdout.readline()
    return int(json.loads(line)["port"]) if line else None


async def _listen(process: Process, log: deque[str]) -> None:
    """Keep the last lines of its log; a pipe that nobody reads would stop it."""
    assert process.stderr is not None
    async for line in process.stderr:
        log.append(line.decode(errors="replace").strip())


def _reason(log: Sequence[str]) -> str:
    """Why it ended, from llama.cpp's log: the first error, since the later ones only echo it,
    without its time and place; else the last line, in which a failed assertion stands."""
    errors = [line.partition(" E ")[2] for line in log if " E " in line]
    last = [line for line in log if line][-1:]
    said = (errors or last or [""])[0].strip()
    return f": {said}" if said else ""


def _end(process: Process) -> None:
    with suppress(ProcessLookupError):  # it was quicker
        process.kill()


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut a stream at line feeds only: U+2028 and its like are ordinary characters in JSON."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
    yield rest


def _chunk(line: bytes) -> Json:
    chunk = json.loads(line)
    assert isinstance(chunk, dict)
    if "error" in chunk:
        code = chunk["error"].get("code", 500)
        raise RuntimeRefused(json.dumps(chunk, separators=(",", ":")), status=code)
    return chunk


def _refusal(status: int, text: str) -> RuntimeRefused:
    """The server's error. Ollama hands its JSON on as text; a sentence without more it hands on
    plain."""
    try:
        error = json.loads(text)["error"]
        if error["code"] == 501:
            return RuntimeRefused(error["message"], status=501)
    except (ValueError, KeyError, TypeError):
        pass
    return RuntimeRefused(text, status=status)
