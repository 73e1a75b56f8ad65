"""HTTP to one runtime: what is retried, how long is waited, and how refusals become errors."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ollama_ft.core.errors import RuntimeRefused, RuntimeUnavailable
from ollama_ft.runtime.fields import Json
from ollama_ft.runtime.host import Address

CONNECT_SECONDS = 5.0
# A slow CPU reads a long prompt, and a server quantises a large file, for many minutes before the
# first byte.
READ_SECONDS = 1800.0
LINE_LIMIT = 8 << 20  # bytes; the longest line that Ollama's own client takes
BODY_LIMIT = 256 << 20  # bytes; a verbose show with a vocabulary of 262k tokens has about 20 MB
_ATTEMPTS = 4
# To our own proxy: what is asked for a proof or an evaluation is no user's question, and means the
# runtime's own names. Others pass it over.
_DIRECT = {"X-Ollama-FT-Direct": "1"}


class Wire:
    """One connection pool to one runtime. Loopback never goes through a proxy."""

    def __init__(
        self, address: Address, *, api_key: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        self.address = address
        self._met = False
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=address.url,
            headers=headers | _DIRECT,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
            transport=transport,
            trust_env=not address.is_loopback,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str) -> Json:
        """GET a JSON object."""
        return self._object("GET", path, None, repeatable=True)

    def head(self, path: str) -> int:
        """HEAD; return the status."""
        with closing(self._open("HEAD", path, None, repeatable=True)) as response:
            return response.status_code

    def post(self, path: str, body: Json, *, repeatable: bool) -> Json:
        """POST a JSON object and read one."""
        return self._object("POST", path, body, repeatable=repeatable)

    def delete(self, path: str, body: Json) -> None:
        """DELETE with a JSON object. A second one would answer 404, so it is not repeated."""
        self._object("DELETE", path, body, repeatable=False)

    def upload(self, path: str, pieces: Iterator[bytes], size: int) -> None:
        """POST `size` bytes from an iterator, without holding them in memory."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with self._translated():
            response = self._http.post(path, content=pieces, headers=headers)
        if response.is_error:
            raise refusal(response.status_code, response.content)

    def lines(self, path: str, body: Json, *, repeatable: bool) -> Iterator[Json]:
        """POST, and yield each JSON line of the answer as it comes.

        Raises RuntimeRefused with the HTTP status, or with status 0 for an error line in a stream
        that had already begun.
        """
        response = self._open("POST", path, body, repeatable=repeatable)
        with closing(response), self._translated():
            for raw in _split(response.iter_bytes()):
                line = _parsed(raw)
                if "error" in line:
                    raise refusal(0, raw)
                yield line

    def _object(self, method: str, path: str, body: Json | None, *, repeatable: bool) -> Json:
        response = self._open(method, path, body, repeatable=repeatable)
        with closing(response), self._translated():
            content = _limited(response)
        return _parsed(content) if content.strip() else {}

    def _open(
        self, method: str, path: str, body: Json | None, *, repeatable: bool
    ) -> httpx.Response:
        """Send a request until it is answered; the body of the answer is not read yet.

        What never reached the server is sent again in any case, once the server has been met; the
        rest only if it is `repeatable`.
        """

        def passes(error: BaseException) -> bool:
            if isinstance(error, Unreachable):
                return self._met
            return repeatable and _is_passing(error)

        for attempt in Retrying(
            retry=retry_if_exception(passes),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            reraise=True,
        ):
            with attempt:
                return self._send(method, path, body)
        raise AssertionError("the last attempt raises")

    def _send(self, method: str, path: str, body: Json | None) -> httpx.Response:
        with self._translated():
            # Written by us: httpx cannot write half a surrogate pair, which an argument of the
            # command line may hold, and which is an escape like any other in JSON.
            content = None if body is None else json.dumps(body, separators=(",", ":"))
            headers = {} if body is None else {"Content-Type": "application/json"}
            response = self._http.send(
                self._http.build_request(method, path, content=content, headers=headers),
                stream=True,
            )
        self._met = True
        if response.is_error and method != "HEAD":
            with closing(response), self._translated():
                raise refusal(response.status_code, _limited(response))
        return response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn httpx's errors into ours, with the address and what to do."""
        try:
            yield
        except httpx.ConnectError as error:
            raise self._unreachable(str(error)) from error
        except httpx.ConnectTimeout as error:
            raise self._unreachable(f"silent for {CONNECT_SECONDS:.0f} seconds") from error
        except httpx.TimeoutException as error:
            raise RuntimeUnavailable(
                f"The runtime at {self.address} sent nothing for {READ_SECONDS / 60:.0f} minutes.",
                mend="look at its log; a smaller model or num_ctx may help",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BrokenOff(
                f"The connection to the runtime at {self.address} broke off ({error}).",
                mend="look at the runtime's log, then run the command again",
            ) from error

    def _unreachable(self, why: str) -> "Unreachable":
        return Unreachable(
            f"No runtime answers at {self.address} ({why}).",
            mend="start Ollama (ollama serve), or use ours: OLLAMA_HOST=embedded",
        )


class Unreachable(RuntimeUnavailable):
    """No connection could be made, so nothing was sent."""


class BrokenOff(RuntimeUnavailable):
    """The connection ended in the middle of a request or an answer."""


def refusal(status: int, content: bytes) -> RuntimeRefused:
    """The error for an answer that the runtime refused with, holding the runtime's own words."""
    try:
        body = json.loads(content)
        said = body.get("error") if isinstance(body, Mapping) else None
        said = said.get("message") if isinstance(said, Mapping) else said
    except ValueError:
        said = None
    if not isinstance(said, str) or not said:
        said = content[:300].decode(errors="replace").strip() or f"HTTP status {status}"
    return RuntimeRefused(f"The runtime refused: {said}", status=status)


def _is_passing(error: BaseException) -> bool:
    """Whether the same question may be answered a moment later.

    Ollama says 500 "EOF" while a name is being replaced, and 503 when its queue is full.
    """
    if isinstance(error, RuntimeRefused):
        return error.status == 503 or (error.status == 500 and str(error).endswith(": EOF"))
    return isinstance(error, BrokenOff)


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Cut a stream at line feeds only: U+2028 and its like are ordinary characters in JSON."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(rest) > LINE_LIMIT:
            raise RuntimeRefused(f"The runtime sent a line of more than {LINE_LIMIT >> 20} MiB.")
    if rest.strip():
        yield rest


def _limited(response: httpx.Response) -> bytes:
    """Read a whole body, unless it is larger than any honest answer."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > BODY_LIMIT:
            raise RuntimeRefused(f"The runtime sent more than {BODY_LIMIT >> 20} MiB.")
    return bytes(content)


def _parsed(raw: bytes) -> Json:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RuntimeRefused(f"The runtime sent no JSON: {raw[:100]!r}") from error
    if not isinstance(body, Mapping):
        raise RuntimeRefused(f"The runtime sent no JSON object: {raw[:100]!r}")
    return body
