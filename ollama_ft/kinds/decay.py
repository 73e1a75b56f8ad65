"""When is a version worse than it was? The rule, the probation, the cool-down; pure functions."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import exp, log, sqrt

DROP = 0.15  # of the former rate; a smaller drop is not worth a person's time
RELEASE = DROP / 2  # an alarm ends when the drop is below this: it does not flicker at the edge
LEAST = 30  # ratings, or questions, on either side
Z = 1.959964  # of a 95 % interval

PROBATION = timedelta(days=14)  # after a promotion, in which decay rolls back first
COOL_DOWN = timedelta(days=7)  # after any rollback, in which decay is only told


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many good ones out of so many."""

    good: int
    of: int

    @property
    def share(self) -> float:
        """0 where there are none."""
        return self.good / self.of if self.of else 0.0


@dataclass(frozen=True, kw_only=True)
class Decay:
    """A rate beside a former one. `drop` is relative: 0.2 = a fifth fewer are good."""

    before: Rate
    now: Rate
    drop: float
    low: float  # the bounds of its 95 % interval
    high: float
    verdict: str  # "steady" | "decayed" | "unknown"


def compare(before: Rate, now: Rate, *, alarmed: bool = False) -> Decay:
    """Whether `now` is worse: a drop of at least DROP whose interval excludes 0.

    `alarmed`: it was said to be decayed at the last look; then it stays so until the drop is below
    RELEASE. Below LEAST on either side nothing is said.
    """
    drop, low, high = relative_drop(before, now)
    return Decay(
        before=before,
        now=now,
        drop=drop,
        low=low,
        high=high,
        verdict=_verdict(before, now, drop, low, alarmed),
    )


def _verdict(before: Rate, now: Rate, drop: float, low: float, alarmed: bool) -> str:
    if min(before.of, now.of) < LEAST:
        return "unknown"
    if drop >= DROP and low > 0:
        return "decayed"
    return "decayed" if alarmed and drop >= RELEASE else "steady"


def relative_drop(before: Rate, now: Rate) -> tuple[float, float, float]:
    """1 - now / before with its 95 % bounds.

    The interval is that of the log ratio with half a count added everywhere, which stays finite at
    0 (Walter, Biometrika 62:371, 1975; Pettigrew, Gart and Thomas, Biometrika 73:425, 1986).
    """
    a, n, b, m = (x + 0.5 for x in (now.good, now.of, before.good, before.of))
    ratio = log(a / n) - log(b / m)
    spread = Z * sqrt(max(0.0, 1 / a - 1 / n + 1 / b - 1 / m))
    drop = 1 - now.share / before.share if before.good else 0.0
    return drop, 1 - exp(ratio + spread), 1 - exp(ratio - spread)


def on_probation(promoted_at: str, action: str, now: datetime) -> bool:
    """Whether what is live was promoted, not rolled back to, and only lately."""
    return action == "promote" and now - datetime.fromisoformat(promoted_at) <= PROBATION


def cooling(last_rollback_at: str | None, now: datetime) -> bool:
    """Whether a rollback is too recent for another one that nobody asked for."""
    return (
        last_rollback_at is not None and now - datetime.fromisoformat(last_rollback_at) <= COOL_DOWN
    )


def due(new_rows: int, days: float, decayed: bool, *, rows: int, every_days: float) -> str:
    """Why a family should be trained again; "" if it need not be.

    `new_rows` exchanges came, and `days` went by, since it was trained last.
    """
    if decayed and new_rows:
        return "the live version has decayed"
    if new_rows >= rows:
        return f"{new_rows} new rows, {rows} or more are asked for"
    if days >= every_days and new_rows:
        return f"trained {days:.0f} days ago, and {new_rows} rows are new"
    return ""
