"""Who may call: only calls that name this machine."""

import socket
from ipaddress import ip_address

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_LOCAL_ENDS = (".localhost", ".local", ".internal")


async def guarded(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse calls whose Host names another machine: a web page could send them through its
    visitor's browser."""
    if scope["type"] == "http":
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if not is_local(host):
            await Response(status_code=403)(scope, receive, send)
            return
    await app(scope, receive, send)


def is_local(host: str) -> bool:
    """Whether a Host header may mean this machine, by Ollama's rules (server/routes.go,
    allowedHost)."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    try:
        number = ip_address(name)
    except ValueError:
        return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(_LOCAL_ENDS)
    return number.is_loopback or number.is_private or number.is_unspecified
