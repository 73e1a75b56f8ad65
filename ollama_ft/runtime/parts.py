"""A file that comes in parts, and how far each has come: kept so that a crash loses nothing.

`<digest>.part` has its full size from the start, with holes. `<digest>.state` beside it says how
many bytes of each part are there. A killed process leaves both as they were, since what it has
written is the operating system's; so a download goes on at the very byte. After a power cut, only
parts that were whole are trusted: they were synced before they were called whole.
"""

import hashlib
import mmap
import os
import struct
import threading
from pathlib import Path
from typing import Self

_HEAD = struct.Struct("<8sQQ16s")  # mark, size of the file, size of a part, this boot
_COUNT = struct.Struct("<Q")
_MARK = b"ftparts1"
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of a Linux


class Parts:
    """The two files, open for one download. Several threads may write, each to its own part."""

    def __init__(self, path: Path, size: int, part: int) -> None:
        """Continue what is at `path`, or begin anew if it is of another size or division."""
        self.path = path
        self.size = size
        self.part = part
        self.count = max(-(-size // part), 1)
        self._state_path = path.with_suffix(".state")
        self.done = 0  # bytes that are there, of all parts
        self._changed = threading.Condition()
        self._open()

    def _open(self) -> None:
        head = _HEAD.pack(_MARK, self.size, self.part, _boot())
        length = len(head) + _COUNT.size * self.count
        known = self._state_path.read_bytes() if self._state_path.is_file() else b""
        whole = self.path.is_file() and self.path.stat().st_size == self.size
        if not (whole and len(known) == length and known[:24] == head[:24]):
            with self.path.open("wb") as file:
                file.truncate(self.size)
            known = head + bytes(length - len(head))
            self._state_path.write_bytes(known)
        with self._state_path.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), length)
        if known[24:40] != head[24:40] or not any(head[24:40]):
            for index in range(self.count):
                if self.have(index) < self.length(index):
                    self._set(index, 0)
        self._state[: len(head)] = head
        self.done = sum(map(self.have, range(self.count)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._state.close()

    def length(self, index: int) -> int:
        """Bytes of a part; the last one may be shorter."""
        return min(self.part, self.size - index * self.part)

    def have(self, index: int) -> int:
        """How many bytes of a part are there, from its beginning."""
        return min(int(_COUNT.unpack_from(self._state, self._at(index))[0]), self.length(index))

    def missing(self) -> list[int]:
        """The parts that are not whole, in order."""
        return [index for index in range(self.count) if self.have(index) < self.length(index)]

    def writer(self, index: int, *, anew: bool) -> "Writer":
        """Where a part's next bytes go; its beginning again for `anew`."""
        if anew:
            self._set(index, 0)
        return Writer(self, index)

    def wrote(self, index: int, count: int) -> None:
        """Remember that so many more bytes of a part are there."""
        self._set(index, self.have(index) + count)

    def digest(self, stop: threading.Event) -> str:
        """The whole file's digest, computed behind the writers as they come along.

        Returns "" if `stop` is set before the file is whole.
        """
        hasher, buffer, at = hashlib.sha256(), memoryview(bytearray(1 << 20)), 0
        with self.path.open("rb", buffering=0) as file:
            while at < self.size and not stop.is_set():
                there = self._reached(at)
                if not there:
                    continue
                read = file.readinto(buffer[: min(there, len(buffer))]) or 0
                hasher.update(buffer[:read])
                at += read
        return "" if at < self.size else f"sha256:{hasher.hexdigest()}"

    def drop(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)

    def _reached(self, at: int) -> int:
        """How many bytes from `at` on are there, in its part; waits a moment if none are."""
        index = at // self.part
        with self._changed:
            there = index * self.part + self.have(index) - at
            if there <= 0:
                self._changed.wait(0.2)
        return max(there, 0)

    def _at(self, index: int) -> int:
        return _HEAD.size + _COUNT.size * index

    def _set(self, index: int, count: int) -> None:
        with self._changed:
            self.done += count - self.have(index)
            _COUNT.pack_into(self._state, self._at(index), count)
            self._changed.notify_all()


class Writer:
    """Writes one part from where it stands. A part is synced before it is called whole."""

    def __init__(self, parts: Parts, index: int) -> None:
        self.parts = parts
        self.index = index
        self._file = parts.path.open("r+b", buffering=0)
        self._file.seek(index * parts.part + parts.have(index))

    def write(self, piece: bytes) -> None:
        """Take the next bytes. Raises OSError when the disk is full."""
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]
        if self.parts.have(self.index) + len(piece) >= self.parts.length(self.index):
            os.fsync(self._file.fileno())
        self.parts.wrote(self.index, len(piece))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def fetched(path: Path) -> int:
    """How many bytes an earlier download left at `path`; 0 if it cannot be continued."""
    try:
        known = path.with_suffix(".state").read_bytes()
        mark, size, part, _ = _HEAD.unpack_from(known)
    except (OSError, struct.error):
        return 0
    if mark != _MARK or not path.is_file() or path.stat().st_size != size or not part:
        return 0
    counts = [count for (count,) in _COUNT.iter_unpack(known[_HEAD.size :])]
    return int(min(sum(counts), size))


def _boot() -> bytes:
    try:
        return hashlib.sha256(_BOOT.read_bytes()).digest()[:16]
    except OSError:  # unknown: no part that is not whole is trusted
        return bytes(16)
