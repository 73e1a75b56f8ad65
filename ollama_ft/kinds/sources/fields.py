"""What the sources share: how they say what they found, and careful looks at foreign values."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from ollama_ft.core.exchange import Heard, Turn
from ollama_ft.core.records import utc_now

Json = Mapping[str, object]
Found = Iterator[Heard | None]  # None: a row that has no question with an answer

BOM = b"\xef\xbb\xbf"
_OPINIONS = {"up": "up", "1": "up", "good": "up", "down": "down", "-1": "down", "bad": "down"}


def parsed(raw: bytes | str) -> object:
    """The value of a JSON text. Raises ValueError for what is no JSON, or is nested too deeply."""
    try:
        return json.loads(raw)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_shallow(value: object, deepest: int = 100) -> bool:
    """Whether a JSON value is nested no deeper than what anybody asks a model."""
    items = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    if items is None:
        return True
    return deepest > 0 and all(is_shallow(item, deepest - 1) for item in items)


def moment(*values: object) -> str:
    """An ISO time in UTC, from the first of these that is one: of any zone, or seconds (or their
    parts) since 1970. Now, where none is."""
    return next(filter(None, map(_moment, values)), None) or utc_now()


def _moment(value: object) -> str:
    try:
        if isinstance(value, str) and not value.isdigit():
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat(timespec="seconds")
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            seconds = float(value)
            while 1e11 < seconds < math.inf:  # milliseconds, microseconds, nanoseconds
                seconds /= 1000
            return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        pass
    return ""


def mapping(value: object) -> Json:
    """The object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def json_object(text: object) -> Json:
    """The object in a JSON text; an empty one for anything else."""
    try:
        found = parsed(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return mapping(found) if is_shallow(found) else {}


def first_text(*values: object) -> str:
    """The first of these that is a text with something in it; else an empty one."""
    return next((value for value in values if isinstance(value, str) and value), "")


def count(value: object) -> int | None:
    """The number, if it is a whole one that SQLite can hold."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    return None


def opinion(value: object) -> str:
    """Up or down for 1, -1 and their names; empty for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    said = isinstance(value, str | int) and not isinstance(value, bool)
    return _OPINIONS.get(str(value).lower(), "") if said else ""


def is_exchange(turns: Sequence[Turn], reply: Turn | None) -> bool:
    """Whether somebody asked something in words, and was answered."""
    if reply is None or not (reply.content.strip() or reply.extra):
        return False
    return any(turn.role == "user" and turn.content.strip() for turn in turns)


def said(turns: Sequence[Turn], reply: Turn) -> str:
    """What makes two rows without ids the same one: all that was said."""
    return json.dumps([[t.role, t.content, t.extra] for t in (*turns, reply)], sort_keys=True)
