"""A family's name stands for its live version, from one request to the next.

The catalog is asked at every request, so a promotion counts from the moment its row is there, for
all clients at once. The runtime's own `family:latest` is not needed for it, and may lag behind.
"""

import re
import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ollama_ft.core.catalog import open_catalog
from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.names import DEFAULT_TAG, Name

_LONGEST_HEAD = 4096  # bytes of a line in which a model's name is looked for


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a model's name means now. For a model of no family, `tag` is the name as asked."""

    asked: str
    tag: str
    family: str = ""
    digest: str = ""

    @property
    def renamed(self) -> bool:
        """Whether the runtime is asked for another name than the client wrote."""
        return self.tag != self.asked


class Names:
    """The families' names, read from the catalog. For one thread."""

    def __init__(self, catalog: Path) -> None:
        self._db = open_catalog(catalog)
        self._db.conn.execute("pragma busy_timeout = 0")  # never wait: what was read last will do
        self._seen = -1
        self._live: dict[str, str] = {}  # "support" -> "support:v3"
        self._versions: dict[str, tuple[str, str]] = {}  # "support:v3" -> family, digest
        self._families: set[str] = set()

    def resolve(self, asked: str) -> Resolved:
        """The version that answers for this name from now on."""
        self._refresh()
        name, tag = _parts(asked)
        live = self._live.get(name)
        if live and tag == DEFAULT_TAG:
            return self._version(asked, live, live)
        return self._version(asked, asked, f"{name}:{tag}")

    def live(self) -> dict[str, str]:
        """Each family with a live version, and that version's tag."""
        self._refresh()
        return dict(self._live)

    def family(self, asked: str) -> str:
        """The family of this name, which may have no live version; empty for any other name."""
        self._refresh()
        name, tag = _parts(asked)
        return name if tag == DEFAULT_TAG and name in self._families else ""

    def close(self) -> None:
        """Close the catalog."""
        self._db.close()

    def _version(self, asked: str, tag: str, known: str) -> Resolved:
        family, digest = self._versions.get(known, ("", ""))
        return Resolved(asked=asked, tag=tag, family=family, digest=digest)

    def _refresh(self) -> None:
        try:
            (changed,) = self._db.conn.execute("pragma data_version").fetchone()
            if changed == self._seen:
                return
            live = self._db.conn.execute("select family, number from live").fetchall()
            versions = self._db.conn.execute("select family, number, digest from versions")
            families = self._db.conn.execute("select distinct name from families").fetchall()
            self._live = {family: f"{family}:v{number}" for family, number in live}
            self._versions = {f"{f}:v{n}": (f, digest) for f, n, digest in versions}
            self._families = {name for (name,) in families}
            self._seen = changed
        except sqlite3.OperationalError:
            pass  # locked: what was read last stands until the next request


@lru_cache(maxsize=1024)
def _parts(asked: str) -> tuple[str, str]:
    """Name and tag, as Ollama compares them; the text itself for what is no name."""
    try:
        name, _, tag = Name.parse(asked).lower().short.rpartition(":")
    except BadInput:
        return asked, ""
    return name, tag


class Renamer:
    """Gives an answer's `model` back as it was asked, in a stream of lines, without holding it up.

    In each line the first `"model": "<tag>"` is replaced; it stands at the head of the line, before
    anything that a model said. All other bytes stay as they are.
    """

    def __init__(self, resolved: Resolved, key: str = "model") -> None:
        import json

        written = re.escape(json.dumps(resolved.tag).encode())
        self._pattern = re.compile(rb'("%s"\s*:\s*)%s' % (key.encode(), written))
        self._asked = json.dumps(resolved.asked, ensure_ascii=False).encode()
        self._held = b""  # the head of a line in which the name may still come
        self._passing = False  # the rest of a line whose name has been seen

    def feed(self, piece: bytes) -> bytes:
        """What can be passed on after this piece."""
        lines = (self._held + piece).splitlines(keepends=True)
        self._held = b""
        return b"".join(map(self._line, lines))

    def finish(self) -> bytes:
        """What was held back, at the end."""
        held, self._held = self._held, b""
        return held

    def _line(self, line: bytes) -> bytes:
        ended = line.endswith((b"\n", b"\r"))
        if self._passing:
            self._passing = not ended
            return line
        changed, count = self._pattern.subn(self._replaced, line, count=1)
        if count or ended or len(line) > _LONGEST_HEAD:
            self._passing = not ended
            return changed
        self._held = line
        return b""

    def _replaced(self, match: re.Match[bytes]) -> bytes:
        return match[1] + self._asked
