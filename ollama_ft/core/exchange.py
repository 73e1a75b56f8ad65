"""An exchange on its way to the log: as the proxy heard it, or an import found it."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ollama_ft.core.errors import BadInput
from ollama_ft.core.words import without_halves

COMPLETE, INCOMPLETE, FAILED = "complete", "incomplete", "failed"
RATINGS = ("up", "down", "corrected")

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing looks like another
_UID = 16  # characters: 10 for the milliseconds, 6 by chance


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message as it was sent. `extra` has what is beside the text: tool calls, names."""

    role: str
    content: str
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What somebody thought of an answer; `rating` is one of RATINGS."""

    rating: str
    correction: str = ""
    by: str = ""
    at: str = ""  # "" = when it is written


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One question with its answer, not yet in the log. Columns of the same name are explained in
    `core.records.Exchange`."""

    uid: str
    at: str
    family: str = ""
    version: str = ""
    version_digest: str = ""
    model: str = ""
    client: str = ""
    path: str = ""
    turns: tuple[Turn, ...]
    reply: Turn | None = None
    thinking: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    context: tuple[Mapping[str, object], ...] = ()
    first_ms: float | None = None
    total_ms: float | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    done_reason: str = ""
    status: str = COMPLETE
    error: str = ""
    source: str = "proxy"
    place: str = ""
    redacted: int = 0
    verdict: Verdict | None = None  # an import may bring one

    @property
    def question_at(self) -> int:
        """The place of the question: the last turn of the user's; the last of all if none is."""
        asked = (i for i in range(len(self.turns) - 1, -1, -1) if self.turns[i].role == "user")
        return next(asked, len(self.turns) - 1)


@dataclass(frozen=True, kw_only=True)
class Rated:
    """A verdict on the exchange with this uid, on its way to the log."""

    uid: str
    verdict: Verdict


Entry = Heard | Rated


def verdict_of(rating: str, correction: str, by: str) -> Verdict:
    """The verdict that somebody gives: up, down, or the answer as it should have been.

    Raises BadInput for anything else.
    """
    if correction.strip():
        return Verdict(rating="corrected", correction=correction.strip(), by=by[:200])
    if rating not in ("up", "down"):
        raise BadInput(
            f"{rating!r} is no rating: up, down, or the corrected answer.",
            mend='ollama-ft feedback last up, or: feedback last --correct "…"',
        )
    return Verdict(rating=rating, by=by[:200])


def new_uid() -> str:
    """An id that sorts by time: 16 characters, without a second one among 2^30 in a millisecond."""
    number = time.time_ns() // 1_000_000 << 30 | int.from_bytes(os.urandom(4), "big") >> 2
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * _UID - 5, -1, -5))


def uid_for(source: str, key: str) -> str:
    """The id of something that an import found: the same whenever it is found again."""
    text = f"{source}\0{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.sha256(text).digest()[:10], "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * _UID - 5, -1, -5))


def is_uid(text: str) -> bool:
    """Whether a text may be one of these ids."""
    return len(text) == _UID and all(c in _ALPHABET for c in text)


def storable(entry: Entry) -> Entry:
    """The entry with U+FFFD for each half of a surrogate pair, which no file can hold."""
    return from_line(without_halves(to_line(entry)))


def to_line(entry: Entry) -> str:
    """The entry as one line of JSON, without a newline."""
    kind = "heard" if isinstance(entry, Heard) else "rated"
    return json.dumps({kind: asdict(entry)}, ensure_ascii=False, separators=(",", ":"))


def from_line(line: str | bytes) -> Entry:
    """The inverse of `to_line`. Raises ValueError for half a line."""
    try:
        body = json.loads(line)
        if (rated := body.get("rated")) is not None:
            return Rated(uid=rated["uid"], verdict=Verdict(**rated["verdict"]))
        heard = body["heard"]
        heard["turns"] = tuple(Turn(**turn) for turn in heard["turns"])
        heard["reply"] = Turn(**heard["reply"]) if heard["reply"] else None
        heard["context"] = tuple(heard["context"])
        heard["verdict"] = Verdict(**heard["verdict"]) if heard["verdict"] else None
        return Heard(**heard)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no entry of the log: {error}") from error
