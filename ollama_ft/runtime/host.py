"""Where a runtime listens, read as Ollama itself reads OLLAMA_HOST.

The form is `[scheme://]host[:port][/path]`. What is left out: http, 127.0.0.1, and port 11434, or
80 and 443 where a scheme is written.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from ollama_ft.core.errors import BadInput

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}
_CLOUD = "ollama.com"


@dataclass(frozen=True, kw_only=True)
class Address:
    """One runtime's address. `host` has no brackets; `path` is empty or starts with a slash."""

    scheme: str
    host: str
    port: int
    path: str = ""
    warning: str = ""  # what was not understood and replaced by a default

    @property
    def url(self) -> str:
        """The address as a URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address cannot leave this machine."""
        number = _ip(self.host)
        return number.is_loopback if number else self.host.lower() == "localhost"

    def __str__(self) -> str:
        return self.url


def parse_host(text: str) -> Address:
    """Return the address that a client uses for this OLLAMA_HOST or --host.

    0.0.0.0 and :: say where a server listens, not whom to call: they become the loopback address.
    A port that is not a number from 0 to 65535 is replaced by the default, with a warning, as
    Ollama does.

    Raises BadInput for a scheme other than http and https.
    """
    text = _unquoted(text)
    scheme, written, rest = text.partition("://")
    if not written:
        scheme, rest = ("https", f"{_CLOUD}:443") if text == _CLOUD else ("http", text)
    scheme = scheme.lower()
    if scheme not in _SCHEME_PORTS:
        raise BadInput(
            f"{text!r} is not an address of a runtime: the scheme is {scheme!r}.",
            mend="write it as http://HOST:PORT or https://HOST:PORT",
        )
    default = _SCHEME_PORTS[scheme] if written else DEFAULT_PORT
    place, _, path = rest.partition("/")
    host, port_text = _split(place)
    port, warning = _port(port_text, default)
    path = path.strip("/")
    return Address(
        scheme=scheme,
        host=_callable_host(host),
        port=port,
        path=f"/{path}" if path else "",
        warning=warning,
    )


def _unquoted(text: str) -> str:
    # Ollama trims spaces, then quotes of either kind, which a Windows or compose file leaves in a
    # value.
    return text.strip().strip("\"'").strip()


def _split(place: str) -> tuple[str, str | None]:
    """Split host and port; None stands for a port that is not written."""
    bare = place.strip("[]")
    if _ip(bare) and (":" in bare or ":" not in place):
        return bare, None
    if place.startswith("["):
        host, _, after = place[1:].partition("]")
        return host, after[1:] if after.startswith(":") else None
    host, colon, port = place.rpartition(":")
    return (host, port) if colon else (place, None)


def _port(text: str | None, default: int) -> tuple[int, str]:
    if text is None:
        return default, ""
    if text.isascii() and text.isdigit() and len(text) < 99 and int(text) <= 65535:
        return int(text), ""
    return default, f"{text!r} is not a port; {default} is used."


def _callable_host(host: str) -> str:
    number = _ip(host)
    if number is None:
        return host or "127.0.0.1"
    if number.is_unspecified:
        return "127.0.0.1" if number.version == 4 else "::1"
    return str(number)


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
