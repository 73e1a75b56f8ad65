"""Words on versions, as "keep": what carries one is never cleared away.

Reads:  tags
Writes: tags
"""

import re

from ollama_ft.core.catalog import append
from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.records import Version, VersionTag
from ollama_ft.core.refs import tags
from ollama_ft.core.sqlite import Database

NAME = re.compile(r"[\w][\w.-]{0,39}")


def put(db: Database, version: Version, name: str, reason: str) -> None:
    """Put a word on a version; nothing happens if it is there. Raises BadInput for what is none."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be a tag: letters, digits, '_', '.', '-', at most 40 of them.",
            mend=f"ollama-ft tag {version.tag} keep",
        )
    if name not in tags(db, version):
        append(db, VersionTag(version=version.key, name=name, present=1, reason=reason))


def take(db: Database, version: Version, name: str, reason: str) -> None:
    """Take a word off a version. Raises NotFound if it is not on it."""
    if name not in tags(db, version):
        raise NotFound(f"{version.tag} has no tag {name!r}.", mend=f"ollama-ft tag {version.tag}")
    append(db, VersionTag(version=version.key, name=name, present=0, reason=reason))
