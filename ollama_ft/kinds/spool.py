"""Texts on disk, by index: a million rows are looked at without a million rows in memory."""

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from ollama_ft.core.errors import OutOfResources


class Spool(Sequence[str]):
    """A list of texts that only grows. Takes 8 bytes of memory a text; the texts lie in a
    temporary file that goes with the object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="ollama-ft-")  # noqa: SIM115
        self._ends = array("q", [0])
        self._reading = False

    def append(self, text: str) -> None:
        """Add one text at the end."""
        content = text.encode("utf-8", "surrogatepass")
        try:
            if self._reading:
                self._file.seek(0, 2)
                self._reading = False
            self._file.write(content)
        except OSError as error:
            raise _full(error) from error
        self._ends.append(self._ends[-1] + len(content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        try:
            self._reading = True
            self._file.seek(self._ends[place])  # what is still to be written is written now
        except OSError as error:
            raise _full(error) from error
        content = self._file.read(self._ends[place + 1] - self._ends[place])
        return content.decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def size(self, index: int) -> int:
        """How long a text is, in bytes of UTF-8; nothing is read for it."""
        return self._ends[index + 1] - self._ends[index]

    def close(self) -> None:
        """Give the disk back at once."""
        self._file.close()


def _full(error: OSError) -> OutOfResources:
    return OutOfResources(
        f"Texts are kept in {tempfile.gettempdir()} while they are looked at, and it takes no "
        f"more: {error.strerror}.",
        mend="give a folder on a larger disk: TMPDIR=/var/tmp ollama-ft data …",
    )


class Picked(Sequence[str]):
    """Some texts of a sequence, in the order of `indices`; `instead` gives a text where it has one.

    A view: nothing is copied.
    """

    def __init__(
        self, texts: Sequence[str], indices: Sequence[int], instead: Spool | None = None
    ) -> None:
        self._texts, self._indices, self._instead = texts, indices, instead

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = self._indices[index]
        if self._instead is not None and self._instead.size(place):
            return self._instead[place]
        return self._texts[place]
