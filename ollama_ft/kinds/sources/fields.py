"""What the sources share: how they say what they found, and careful looks at foreign values."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from ollama_ft.core.exchange import Heard
from ollama_ft.core.records import utc_now

Json = Mapping[str, object]
Found = Iterator[Heard | None]  # None: a row that has no question with an answer


def moment(value: object) -> str:
    """An ISO time in UTC, from one of any zone or from seconds (or their parts) since 1970."""
    try:
        if isinstance(value, str) and not value.isdigit():
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat(timespec="seconds")
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            seconds = float(value)
            while seconds > 1e11:  # milliseconds, microseconds, nanoseconds
                seconds /= 1000
            return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        pass
    return utc_now()


def mapping(value: object) -> Json:
    """The object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def json_object(text: object) -> Json:
    """The object in a JSON text; an empty one for anything else."""
    try:
        return mapping(json.loads(str(text))) if text else {}
    except ValueError:
        return {}
