"""One registry's HTTP: a request, its answer's meaning, and another attempt where that helps."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ollama_ft.core.errors import BadInput, NotFound, RuntimeRefused, RuntimeUnavailable
from ollama_ft.runtime.oci.access import read_at_most

ATTEMPTS = 6
MOST_SAID = 1 << 20  # bytes of a refusal that are read

P = ParamSpec("P")
T = TypeVar("T")


class Wire:
    """Requests to one repository's registry."""

    def __init__(self, http: httpx.Client, url: str, pause: Callable[[float], None]) -> None:
        """`url` is the repository's, below /v2/; `pause` waits the seconds between attempts."""
        self.url = url
        self.host = httpx.URL(url).netloc.decode()
        self._http = http
        self._retrying = Retrying(
            # A refusal is a kind of RuntimeUnavailable too, and asking again changes nothing.
            retry=retry_if_exception(lambda error: type(error) is RuntimeUnavailable),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=8.0),
            sleep=pause,
            reraise=True,
        )

    def again(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it, and do it again after a failure of the network or the server; at most ATTEMPTS
        times.
        """
        return self._retrying(do, *args, **kwargs)

    @contextmanager
    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Iterator[httpx.Response]:
        """Send one request; yield the answer before its body. Raises RuntimeUnavailable."""
        try:
            with self._http.stream(method, url, headers=headers, content=content) as response:
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RuntimeUnavailable(
                f"The registry at {self.host} cannot be reached ({error or type(error).__name__}).",
                mend="look at the network and the proxy settings; what has moved is kept",
            ) from error

    def check(self, response: httpx.Response, missing: str) -> None:
        """Raise what the status means, unless it is a good one; `missing` says what a 404 is."""
        status = response.status_code
        if response.is_success:
            return
        if status == httpx.codes.NOT_FOUND:
            raise NotFound(f"{missing}.", mend="look at the name and the tag")
        if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
            raise RuntimeUnavailable(f"The registry at {self.host} failed ({status}).")
        said = _said(read_at_most(response, MOST_SAID)) or str(status)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise RuntimeRefused(
                f"The registry at {self.host} does not allow it: {said}.",
                status=status,
                mend=f"docker login {self.host}, as somebody who may",
            )
        raise RuntimeRefused(f"The registry at {self.host} refused: {said}.", status=status)


def trusted(ca: Path | None) -> ssl.SSLContext | bool:
    """The usual CAs, and this one beside them. Raises BadInput for a file that is none."""
    if ca is None:
        return True
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"{ca} is no certificate of a CA: {error}.") from error
    return context


def _said(content: bytes) -> str:
    """The registry's own words, from its list of errors or as they stand."""
    try:
        errors = httpx.Response(200, content=content).json()["errors"]
        return "; ".join(str(e.get("message") or e.get("code")) for e in errors)[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return content[:300].decode(errors="replace").strip()
