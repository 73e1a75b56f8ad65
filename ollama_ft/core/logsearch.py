"""Finding exchanges: by words, by what is known of them, newest first."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ollama_ft.core.errors import BadInput
from ollama_ft.core.sqlite import Database
from ollama_ft.core.words import match_query

_AGO = re.compile(r"(\d+)\s*(h|d|w|m|y)")
_HOURS = {"h": 1, "d": 24, "w": 168, "m": 730, "y": 8766}
_EPOCH = "1970-01-01T00:00:00+00:00"  # before anything was logged


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which exchanges are wanted; what is "" or None does not matter."""

    words: str = ""  # as for core.words.match_query
    family: str = ""
    version: str = ""  # a tag: "support:v3"
    since: str = ""  # an ISO time
    rating: str = ""  # "up" | "down" | "corrected" | "any" | "none"
    client: str = ""
    status: str = ""
    source: str = ""
    most: int | None = 20


def search(log: Database, wish: Wish) -> list[dict[str, Any]]:
    """Rows of exchanges_view, the newest first. Raises BadInput if there is no word in `words`."""
    where: list[str] = []
    values: dict[str, object] = {}
    for name in ("family", "version", "client", "status", "source"):
        if value := getattr(wish, name):
            where.append(f"e.{name} = :{name}")
            values[name] = value
    if wish.since:
        where.append("e.at >= :since")
        values["since"] = wish.since
    where += _rated(wish.rating, values)
    tables, order = "exchanges_view e", "e.id"
    if wish.words:
        values["words"] = match_query(wish.words)
        if not values["words"]:
            raise BadInput(f"There is no word in {wish.words!r}.", mend="ollama-ft logs -q refund")
        # The search comes first, in the order of its rows: it can stop at the last one wanted.
        tables, order = "words cross join exchanges_view e on e.id = words.rowid", "words.rowid"
        where.append("words match :words")
    sql = f"select e.* from {tables}"
    sql += f" where {' and '.join(where)}" if where else ""
    sql += f" order by {order} desc"
    sql += f" limit {wish.most}" if wish.most is not None else ""
    return list(log.query(sql, values))


def _rated(rating: str, values: dict[str, object]) -> list[str]:
    if not rating:
        return []
    if rating == "none":
        return ["e.rating is null"]
    few = "select exchange from feedback"
    if rating == "any":
        return [f"e.id in ({few})"]
    values["rating"] = rating
    # Through the few that were ever rated so, instead of all exchanges there are.
    return [f"e.id in ({few} where rating = :rating)", "e.rating = :rating"]


def moment(text: str, now: datetime | None = None) -> str:
    """The ISO time that a person means: a date, a time, or how long ago ("7d", "12h", "2w").

    What is before 1970 is 1970. Raises BadInput for anything else.
    """
    if ago := _AGO.fullmatch(text.strip()):
        try:
            back = timedelta(hours=int(ago[1]) * _HOURS[ago[2]])
            ago_at = (now or datetime.now(UTC)) - back
        except (OverflowError, ValueError):  # int() reads 4,300 digits at most
            return _EPOCH
        return max(_EPOCH, ago_at.isoformat(timespec="seconds"))
    try:
        found = datetime.fromisoformat(text.strip())
        if found.year < 1970:
            return _EPOCH
        local = found if found.tzinfo else found.astimezone()
        return local.astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError) as error:
        raise BadInput(
            f"{text!r} is no time: write 2026-11-25, or 7d, 12h, 2w.",
            mend="ollama-ft logs --since 7d",
        ) from error
