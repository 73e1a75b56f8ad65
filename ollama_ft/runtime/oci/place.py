"""Where an artefact lies: `[scheme://]host[:port]/path/of/any/depth[:tag][@sha256:…]`.

The grammar is the distribution specification's (1.1, "Pulling manifests"). The host has to be
written: nothing is sent to a registry that nobody named.
"""

import re
from dataclasses import dataclass, replace

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.manifest import checked_digest

LONGEST = 255  # characters of host and path together, which many registries keep to
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?")
# Docker Hub answers under another name than people write.
_HUB, _HUB_API = "docker.io", "registry-1.docker.io"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One repository at one registry, and which of its artefacts is meant."""

    host: str  # "registry.example:5000"
    path: str  # "team/support"
    tag: str = ""  # "v2"; "" if only a digest, or nothing, is named
    digest: str = ""  # "sha256:…"; wins over the tag
    scheme: str = ""  # "http" | "https" as written; "" leaves it to the host

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read a place. Raises BadInput, saying which part is wrong."""
        scheme, written, rest = text.strip().rpartition("://")
        if written and scheme not in ("http", "https", "oci"):
            raise _wrong(text, f"the scheme {scheme!r} is not http, https or oci")
        rest, at, digest = rest.partition("@")
        host, slash, path = rest.partition("/")
        path, colon, tag = path.partition(":")
        if not slash or not ("." in host or ":" in host or host == "localhost"):
            raise _wrong(text, "it begins with no host")
        if not _HOST.fullmatch(host):
            raise _wrong(text, f"{host!r} is no host")
        if not _PATH.fullmatch(path) or len(host) + len(path) > LONGEST:
            raise _wrong(text, f"{path!r} is no path of lower-case letters, digits, '.', '_', '-'")
        if colon and not _TAG.fullmatch(tag):
            raise _wrong(text, f"{tag!r} is no tag")
        if at:
            checked_digest(digest)
        return cls(
            host=host,
            path=path,
            tag=tag,
            digest=digest,
            scheme="" if scheme == "oci" else scheme,
        )

    @property
    def reference(self) -> str:
        """What a manifest is asked for by: the digest, else the tag."""
        return self.digest or self.tag

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine."""
        return parse_host(f"http://{self.host}").is_loopback

    def url(self, *, insecure: bool) -> str:
        """The registry's address, without a slash at its end.

        https, but on this machine; elsewhere http only where it is wanted (`insecure`). Raises
        BadInput for a place that was written with http:// and is not wanted so.
        """
        if self.scheme == "http" and not (insecure or self.is_loopback):
            raise BadInput(
                f"{self.host} would be asked over plain http, which anybody on the way can read "
                "and change.",
                mend="say that this is wanted with --insecure",
            )
        plain = self.scheme == "http" or (not self.scheme and (insecure or self.is_loopback))
        host = _HUB_API if self.host == _HUB else self.host
        return f"{'http' if plain else 'https'}://{host}"

    def with_tag(self, tag: str) -> "Place":
        """Another artefact of the same repository. Raises BadInput for what is no tag."""
        if not _TAG.fullmatch(tag):
            raise BadInput(f"{tag!r} is no tag: letters, digits, '_', '.', '-', at most 128.")
        return replace(self, tag=tag, digest="")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.path}{tag}{digest}"


def _wrong(text: str, why: str) -> BadInput:
    return BadInput(
        f"{text!r} is no place in a registry: {why}.",
        mend="write it as registry.example:5000/team/support:v2",
    )
