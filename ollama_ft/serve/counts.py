"""How many questions came and how many were lost: figures that a kill cannot take.

They lie in a small file that is written at each count (a system call of two microseconds), so the
kernel keeps the last figure whatever becomes of the process. A question is `begun` before it is
passed on. Whatever was begun is in the log in the end, in the spool, or one of the losses; so what
a killed process took with it is found at the next start by subtraction.
"""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SLOTS = ("begun", "lost_full", "lost_unwritten", "lost_killed", "lost_feedback")
_SLOT = struct.Struct("<Q")
_SIZE = _SLOT.size * len(_SLOTS)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Questions that were passed on, and are not in the log; since the log was begun."""

    full: int  # the queue was full
    unwritten: int  # neither spool nor log could be written, or it could not be read
    killed: int  # the process ended before they were written
    feedback: int = 0  # opinions, not questions: neither spool nor log could be written

    @property
    def total(self) -> int:
        """All questions of them."""
        return self.full + self.unwritten + self.killed


class Counts:
    """The file of figures, open. Each figure is counted by one thread only."""

    def __init__(self, path: Path) -> None:
        """Open the file, or begin one at zero. Raises OSError if that cannot be done."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._values = _read(self._file)
        self._found = dict(self._values)  # as an earlier process left them

    def get(self, name: str) -> int:
        """One figure."""
        return self._values[name]

    def add(self, name: str, more: int = 1) -> None:
        """Count. On a full disk the figure is right as long as this process lives."""
        self._values[name] += more
        with suppress(OSError):
            place = _SLOTS.index(name) * _SLOT.size
            os.pwrite(self._file, _SLOT.pack(self._values[name]), place)

    def settle(self, before: int, *, anew: bool = False) -> int:
        """Count what earlier processes took with them; return how many that were.

        `before` is how many exchanges they brought to the log, its spool included. Where the log is
        begun `anew`, what is missing went away with the one before: it was not lost.
        """
        missing = self._found["begun"] - self._found["lost_full"] - self._found["lost_unwritten"]
        missing -= before + self._found["lost_killed"]
        if missing < 0 or anew:  # the file of figures is younger than the log, or older
            self.add("begun", -missing)
            return 0
        self.add("lost_killed", missing)
        return missing

    @property
    def losses(self) -> Losses:
        """All losses."""
        return _losses(self._values)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_counts(path: Path) -> tuple[int, Losses]:
    """How many questions were begun, and the losses, as they stand in the file; zeros without."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0, Losses(full=0, unwritten=0, killed=0)
    try:
        values = _read(file)
    finally:
        os.close(file)
    return values["begun"], _losses(values)


def _read(file: int) -> dict[str, int]:
    content = os.pread(file, _SIZE, 0).ljust(_SIZE, b"\0")
    return {name: _SLOT.unpack_from(content, i * _SLOT.size)[0] for i, name in enumerate(_SLOTS)}


def _losses(values: dict[str, int]) -> Losses:
    return Losses(**{name.removeprefix("lost_"): values[name] for name in _SLOTS[1:]})
