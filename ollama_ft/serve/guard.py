"""Who may call. On loopback: whoever names this machine. Beyond: whoever has the token.

A web page can make its visitor's browser call an address on loopback, under a name that the page's
owner lets point there (DNS rebinding), or simply across origins. Host and Origin tell.
"""

import hmac
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from ollama_ft.core.errors import BadInput
from ollama_ft.serve.asgi import App, Receive, Scope, Send, answer, header, without

# What Ollama lets call besides web pages of this machine: programs with a web view.
_APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file", "chrome-extension")
_LOCAL_ENDS = (".localhost", ".local", ".internal")


@dataclass(frozen=True, kw_only=True)
class Doorkeeper:
    """Where it listens, under which further names it may be called, and the token."""

    listen: str  # an IP address
    names: Sequence[str] = ()
    token: str = ""

    def __post_init__(self) -> None:
        if not self.is_local and not self.token:
            raise BadInput(
                f"{self.listen} can be reached from other machines, and everybody there could ask "
                "and read.",
                mend="set a token: OLLAMA_FT_TOKEN=… ollama-ft serve --listen "
                f"{self.listen}, or leave --listen out",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can call."""
        return ip_address(self.listen).is_loopback

    def knows(self, host: str) -> bool:
        """Whether a Host header (or the host of an Origin) may mean us.

        A number cannot be rebound, so an address is fine; names must be this machine's own.
        """
        name = _bare(host)
        try:
            number = ip_address(name)
        except ValueError:
            own = ("", "localhost", socket.gethostname().lower(), *map(str.lower, self.names))
            return name in own or name.endswith(_LOCAL_ENDS)
        return number.is_loopback or number.is_unspecified or number.is_private or not self.is_local

    def welcomes(self, origin: str) -> bool:
        """Whether a page of this origin may call; no origin at all is a program's."""
        if not origin:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in _APP_SCHEMES or (bool(parts.netloc) and self.knows(parts.netloc))

    def has_token(self, authorization: str) -> bool:
        """Whether this header carries the token."""
        scheme, _, said = authorization.partition(" ")
        known = self.token.encode()
        given = said.strip().encode("latin-1")  # as `header` has read it
        return scheme.lower() == "bearer" and hmac.compare_digest(given, known)


class Guard:
    """The application around all others: lets through, or says why not."""

    def __init__(self, app: App, keeper: Doorkeeper) -> None:
        self.app = app
        self.keeper = keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 401, or let the request through, without our token."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        keeper = self.keeper
        host, origin = header(scope, b"host"), header(scope, b"origin")
        if not keeper.knows(host):
            await _refuse(send, 403, f"{host} is not a name of this server (serve --name adds one)")
        elif not keeper.welcomes(origin):
            await _refuse(send, 403, f"pages of {origin} may not call here (serve --name adds it)")
        elif not keeper.token or _is_preflight(scope):
            await self.app(scope, receive, send)
        elif keeper.has_token(header(scope, b"authorization")):
            headers = without(scope["headers"], b"authorization")  # it is ours, not the runtime's
            await self.app({**scope, "headers": headers}, receive, send)
        else:
            await _refuse(send, 401, "this server wants its token: Authorization: Bearer …")


def _is_preflight(scope: Scope) -> bool:
    """A browser's question before the real request; it never carries a token."""
    asked = header(scope, b"access-control-request-method")
    return scope["method"] == "OPTIONS" and bool(asked)


async def _refuse(send: Send, status: int, words: str) -> None:
    await answer(send, {"error": words}, status)


def _bare(host: str) -> str:
    """A host without its port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, colon, port = host.rpartition(":")
    return (name if colon and ":" not in name and port.isdigit() else host).lower().rstrip(".")
