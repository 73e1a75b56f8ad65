"""The spool: entries that are on their way to the log, one line of JSON each.

What is in it survives the process, however it ends: a line that was written is in the kernel's
hands. It is bounded; when the log takes what is in it, it is emptied.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ollama_ft.core.exchange import Entry, from_line

LIMIT = 64 << 20  # bytes
_BATCH = 500  # entries read at a time


class SpoolFull(OSError):
    """There is no room for this batch."""


class Spool:
    """The file of one log. Only the writer's thread touches it."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._mend()

    @property
    def size(self) -> int:
        """Bytes that wait for the log."""
        return os.fstat(self._file).st_size

    def add(self, lines: Iterable[str]) -> None:
        """Append entries' lines, all or none. Raises SpoolFull, or OSError if the disk is."""
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        before = self.size
        if before + len(content) > self.limit:
            raise SpoolFull(f"{self.path.name} holds {before} bytes")
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def batches(self) -> Iterator[list[Entry]]:
        """Everything that waits, oldest first. Lines that are no entries are passed over."""
        with self.path.open("rb") as file:
            entries = _entries(file)
            while batch := list(islice(entries, _BATCH)):
                yield batch

    def clear(self) -> None:
        """Empty it: the log has everything."""
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        os.close(self._file)

    def _mend(self) -> None:
        """Cut off the half line that a kill can leave, so that the next one begins a line."""
        end = self.size
        while end:
            start = max(0, end - (1 << 16))
            last = os.pread(self._file, end - start, start).rfind(b"\n")
            if last >= 0:
                end = start + last + 1
                break
            end = start
        if end != self.size:
            os.ftruncate(self._file, end)


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    for line in lines:
        try:
            yield from_line(line)
        except ValueError:
            continue
