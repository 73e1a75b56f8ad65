"""One blob from a registry, in parts over several connections; what is there is never asked twice.

A part that is cut is continued where it was cut. Only attempts that brought nothing count towards
giving up. Servers that ignore `Range` give the blob in one piece, from the start.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from ollama_ft.core.errors import (
    BadInput,
    FtError,
    NotFound,
    OutOfResources,
    RuntimeRefused,
    RuntimeUnavailable,
)
from ollama_ft.runtime.oci.access import read_at_most
from ollama_ft.runtime.parts import Parts, Writer

CONNECTIONS = 4
PART = 32 << 20  # bytes
ATTEMPTS = 6  # without a single byte in between
MOST_SAID = 1 << 20  # bytes of a refusal that are read
TELL_EVERY = 1 << 20  # bytes between two words about progress

T = TypeVar("T")
Tell = Callable[[int], None]  # called with the bytes that are there


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A blob at a registry."""

    digest: str
    size: int  # bytes
    path: str  # below the client's base URL
    missing: str  # what to say if it is not there


def download(client: httpx.Client, wanted: Wanted, part: Path, tell: Tell) -> None:
    """Bring the blob to the file `part`, or continue what an earlier call left there.

    Raises NotFound, RuntimeRefused, RuntimeUnavailable and OutOfResources; what has come is kept
    then. Raises BadInput if it has another digest; then nothing is kept.
    """
    where = _Where(client, wanted)
    several = wanted.size > PART and where.takes_ranges()
    with Parts(part, wanted.size, PART if several else max(wanted.size, 1)) as parts:
        crew = _Crew(where, parts, tell)
        digest = crew.run(CONNECTIONS if several else 1)
        if digest != wanted.digest:
            parts.drop()
            raise BadInput(f"The content has the digest {digest}, not {wanted.digest}.")


class _Where:
    """Where the blob's bytes are: at the registry, or where that sends us, until it fails there."""

    def __init__(self, client: httpx.Client, wanted: Wanted) -> None:
        self.client = client
        self.wanted = wanted
        self._url = wanted.path

    def takes_ranges(self) -> bool:
        """Whether a part alone can be had. Remembers where the request ended."""
        return _persistently(self._asks_for_one_byte)

    def _asks_for_one_byte(self) -> bool:
        with self.stream("bytes=0-0") as response:
            self._url = str(response.url)
            return response.status_code == httpx.codes.PARTIAL_CONTENT

    @contextmanager
    def stream(self, span: str) -> Iterator[httpx.Response]:
        """The answer to a request for some bytes; all of them for "". Raises as `download` does."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": span} if span else {})
        try:
            with self.client.stream("GET", self._url, headers=headers) as response:
                check_status(response, self.wanted.missing)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._url = self.wanted.path
            raise unreachable(self.client, error) from error
        except FtError:
            self._url = self.wanted.path  # an address that was good for an hour may have expired
            raise


class _Crew:
    """Threads that fetch parts until none is missing, and one that computes the digest."""

    def __init__(self, where: _Where, parts: Parts, tell: Tell) -> None:
        self.where = where
        self.parts = parts
        self._tell = tell
        self._told = -TELL_EVERY
        self._lock = threading.Lock()
        self._left = deque(parts.missing())
        self._failed: list[BaseException] = []
        self._stop = threading.Event()
        self._digest = ""

    def run(self, connections: int) -> str:
        """Fetch everything; return the digest. Raises the first thing that went wrong."""
        work = [self._work] * min(connections, max(len(self._left), 1))
        # Daemons: Ctrl-C must not wait for a registry that says nothing.
        threads = [
            threading.Thread(target=self._guarded, args=(job,), daemon=True)
            for job in (*work, self._follow)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive() and not self._failed:
                    thread.join(0.2)
        finally:
            self._stop.set()
        if self._failed:
            raise self._failed[0]
        return self._digest

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # raised again by `run`, in the caller's thread
            self._failed.append(error)
            self._stop.set()

    def _follow(self) -> None:
        self._digest = self.parts.digest(self._stop)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                index = self._left.popleft()
            except IndexError:
                return
            while self.parts.have(index) < self.parts.length(index) and not self._stop.is_set():
                _persistently(partial(self._attempt, index))

    def _attempt(self, index: int) -> None:
        """Ask once for what a part lacks. An attempt that brought some of it is no failure."""
        before = self.parts.have(index)
        try:
            self._fetch(index)
        except RuntimeUnavailable as error:
            if type(error) is RuntimeUnavailable and self.parts.have(index) > before:
                return
            raise

    def _fetch(self, index: int) -> None:
        have, length = self.parts.have(index), self.parts.length(index)
        start = index * self.parts.part
        alone = self.parts.count == 1 and not have
        span = "" if alone else f"bytes={start + have}-{start + length - 1}"
        with self.where.stream(span) as response:
            partial = response.status_code == httpx.codes.PARTIAL_CONTENT
            if not partial and self.parts.count > 1:
                raise RuntimeUnavailable(f"{response.url.host} took no notice of the range.")
            with self.parts.writer(index, anew=not partial) as writer:
                self._take(response, writer)
        if self.parts.have(index) < length and not self._stop.is_set():
            digest = self.where.wanted.digest
            raise RuntimeUnavailable(f"{self.where.client.base_url.host} sent a part of {digest}.")

    def _take(self, response: httpx.Response, writer: Writer) -> None:
        room = self.parts.length(writer.index) - self.parts.have(writer.index)
        for piece in response.iter_raw():
            if self._stop.is_set():
                return
            room -= len(piece)
            if room < 0:
                wanted = self.where.wanted.digest
                raise RuntimeRefused(f"The registry sent more bytes than {wanted} has.")
            try:
                writer.write(piece)
            except OSError as error:
                raise OutOfResources(
                    f"{self.parts.path.parent} cannot be written ({error.strerror}); what was "
                    "fetched is kept.",
                    mend="make room, then run the command again",
                ) from error
            self._progress()

    def _progress(self) -> None:
        with self._lock:
            done = self.parts.done
            if done - self._told >= TELL_EVERY or done == self.parts.size:
                self._told = done
                self._tell(done)


@retry(
    retry=retry_if_exception(lambda error: type(error) is RuntimeUnavailable),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.5, max=8.0),
    reraise=True,
)
def _persistently(attempt: Callable[[], T]) -> T:
    return attempt()


def check_status(response: httpx.Response, missing: str) -> None:
    """Raise NotFound saying `missing`, RuntimeUnavailable where another try may help, or
    RuntimeRefused, unless the answer is content."""
    status = response.status_code
    if status == httpx.codes.NOT_FOUND:
        raise NotFound(f"{missing}.", mend="look the name up in the registry's library")
    if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
        raise RuntimeUnavailable(f"The registry at {response.url.host} failed ({status}).")
    if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        said = read_at_most(response, MOST_SAID)[:300].decode(errors="replace").strip()
        raise RuntimeRefused(
            f"The registry at {response.url.host} refused: {said or status}", status=status
        )


def unreachable(client: httpx.Client, error: Exception) -> RuntimeUnavailable:
    """What to raise where the network failed."""
    return RuntimeUnavailable(
        f"The registry at {client.base_url.host} cannot be reached ({error}).",
        mend="look at the network and the proxy settings; what was fetched is kept",
    )
