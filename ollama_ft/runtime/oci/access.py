"""Getting in: whatever the registry asks for in its 401, answered from the user's credentials.

    nothing asked        the request stands as it is
    Basic                user and password, with every request
    Bearer               a token from the place that the challenge names, for the scope that it
                         names; without credentials the token of a nobody, which many give

Tokens and passwords are sent to the registry's own origin and the token's, never to the place that
a blob's redirect or an upload's Location leads to.
"""

import json
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass

import httpx

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.oci.credentials import Credentials

MOST_TOKEN_BYTES = 1 << 20
_CLIENT = "ollama-ft"


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a registry's WWW-Authenticate asks for."""

    scheme: str  # "basic" | "bearer"
    realm: str = ""
    service: str = ""
    scope: str = ""


class Access(httpx.Auth):
    """Answers challenges for one registry; hand it to an httpx client as `auth`."""

    requires_response_body = False

    def __init__(self, origin: str, credentials: Credentials | None, *, insecure: bool) -> None:
        self._origin = httpx.URL(origin)
        self._credentials = credentials
        self._insecure = insecure
        self._header = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request; on a 401 from the registry get in and send it once more.

        Raises RuntimeRefused (401) with what was missing.
        """
        if not self._is_ours(request.url):
            yield request
            return
        if self._header:
            request.headers["Authorization"] = self._header
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        challenge = parse_challenge(response.headers.get_list("WWW-Authenticate"))
        if challenge is None:
            return
        if challenge.scheme == "basic":
            self._header = self._basic()
        else:
            self._header = f"Bearer {self._token((yield self._token_request(challenge)))}"
        request.headers["Authorization"] = self._header
        again = yield request
        if again.status_code == httpx.codes.UNAUTHORIZED:
            raise self._refused(f"{self._who()} is not let in")

    def _is_ours(self, url: httpx.URL) -> bool:
        mine = (self._origin.scheme, self._origin.host, self._origin.port)
        return (url.scheme, url.host, url.port) == mine

    def _basic(self) -> str:
        if self._credentials is None or not self._credentials.user:
            raise self._refused("it asks for a user and a password, and none are known")
        return self._credentials.basic

    def _who(self) -> str:
        known = self._credentials
        return f"the user {known.user!r} of {known.origin}" if known else "a nobody"

    def _token_request(self, challenge: Challenge) -> httpx.Request:
        realm = httpx.URL(challenge.realm)
        plain = realm.scheme == "http" and (
            self._insecure or parse_host(f"http://{realm.host}").is_loopback
        )
        if not realm.host or not (realm.scheme == "https" or plain):
            raise self._refused(f"it sends to {challenge.realm!r} for a token, which is not safe")
        wanted = {"service": challenge.service, "scope": challenge.scope}
        query = {key: value for key, value in wanted.items() if value}
        known = self._credentials
        if known and known.refresh:
            form = query | {"grant_type": "refresh_token", "client_id": _CLIENT}
            return httpx.Request("POST", realm, data=form | {"refresh_token": known.refresh})
        headers = {"Authorization": known.basic} if known else {}
        return httpx.Request("GET", realm.copy_merge_params(query), headers=headers)

    def _token(self, response: httpx.Response) -> str:
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._refused("its token service does not know you")
        if not response.is_success:
            raise self._refused(f"its token service failed ({response.status_code})")
        try:
            said = json.loads(read_at_most(response, MOST_TOKEN_BYTES))
            token = said.get("token") or said.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise self._refused("its token service gave no token")
        return token

    def _refused(self, why: str) -> RuntimeRefused:
        host = self._origin.netloc.decode()
        return RuntimeRefused(
            f"The registry at {host} does not let you in: {why}.",
            status=401,
            mend=f"docker login {host}, or podman login {host}",
        )


def read_at_most(response: httpx.Response, most: int) -> bytes:
    """A small body. Raises RuntimeRefused beyond `most` bytes, whatever its length claims."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > most:
            raise RuntimeRefused(f"{response.url.host} sent more than {most >> 10:,} KiB for it.")
    return bytes(content)


def parse_challenge(headers: list[str]) -> Challenge | None:
    """The first challenge that can be answered; bearer before basic. None if there is none."""
    found: dict[str, Challenge] = {}
    for header in headers:
        scheme, _, rest = header.strip().partition(" ")
        if (name := scheme.lower()) in ("basic", "bearer"):
            pairs = [p for p in urllib.request.parse_http_list(rest) if "=" in p]
            fields = {k.lower(): v for k, v in urllib.request.parse_keqv_list(pairs).items()}
            found.setdefault(
                name,
                Challenge(
                    scheme=name,
                    realm=fields.get("realm", ""),
                    service=fields.get("service", ""),
                    scope=fields.get("scope", ""),
                ),
            )
    return found.get("bearer") or found.get("basic")
