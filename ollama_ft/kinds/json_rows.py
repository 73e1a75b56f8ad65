"""The rows of a JSONL file or a JSON array, one at a time, from a file that nobody checked."""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.encodings import open_text

LONGEST = 16 << 20  # bytes of one row; no conversation that a small model can learn is longer
PIECE = 1 << 16  # bytes read at once
_DECODER = json.JSONDecoder()
_SPACES = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, kw_only=True)
class FileFault:
    """Stands in the place of a row that cannot be read; `what` is the end of "row 7 …"."""

    what: str


def json_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield (row number, value): the line number for JSONL, the place from 1 for an array.

    A line that is not JSON is yielded as a FileFault, so that the reader decides whether to go on.

    Raises NotFound if there is no such file; BadInput if it is no text (see encodings), or an array
    that is broken, where nothing after the break can be trusted.
    """
    with open_text(path) as file:
        begins = file.peek(4096).lstrip()[:1]  # type: ignore[attr-defined]
        yield from _array(path, file) if begins == b"[" else _lines(file)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, object]]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            yield number, FileFault(what=f"is longer than {LONGEST >> 20} MB")
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST)
        elif line.strip():
            yield number, _value(line)


def _value(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return FileFault(what=f"is not UTF-8 (byte {error.start + 1} of the line)")
    except json.JSONDecodeError as error:
        return FileFault(what=f"is not JSON: {error.msg}, column {error.colno}{_hint(line)}")
    except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
        return FileFault(what="is nested too deeply, or has a number that is too long")


def _hint(line: bytes) -> str:
    if line.strip() in (b"{", b"["):
        return " (a list over several lines must begin with [ and end with ])"
    return " (strings and keys need double quotes)" if b"'" in line[:4] else ""


def _array(path: Path, file: IO[bytes]) -> Iterator[tuple[int, object]]:
    """The items of the one array in `file`, holding no more than the longest of them."""
    text = _Text(path, file)
    text.take("[")
    number = 0
    closed = text.peek() == "]"
    while not closed:
        number += 1
        yield number, text.value(number)
        after = text.peek()
        if after not in (",", "]"):
            raise text.broken(number, "a comma or ] is missing after it")
        closed = after == "]"
        text.take(after)
        if not closed and text.peek() == "]":
            raise text.broken(number, "a comma follows it, but no further row")
    if not number:
        text.take("]")
    if text.peek():
        raise text.broken(number, "something follows the closing ]")


class _Text:
    """The file as text, a window of it at a time."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.file = file
        self.decode = codecs.getincrementaldecoder("utf-8")().decode
        self.window = ""
        self.at = 0  # where in the window the next character is
        self.ended = False

    def more(self, count: int) -> None:
        """Read `count` bytes more into the window, letting go of what was taken."""
        piece = self.file.read(count)
        self.ended = not piece
        try:
            self.window = self.window[self.at :] + self.decode(piece, self.ended)
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{self.path.name} is not UTF-8 (near byte {self.file.tell()}).",
                mend=f"save {self.path.name} as UTF-8",
            ) from error
        self.at = 0

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self.at = _SPACES.match(self.window, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.window):
                return self.window[self.at]
            if self.ended:
                return ""
            self.more(PIECE)

    def take(self, character: str) -> None:
        """Step over the next character."""
        assert self.peek() == character, "the caller has looked"
        self.at += 1

    def value(self, number: int) -> object:
        """The next JSON value, read whole."""
        self.peek()
        count = PIECE
        while True:
            try:
                value, end = _DECODER.raw_decode(self.window, self.at)
            except json.JSONDecodeError as error:
                if self.ended or len(self.window) - self.at > LONGEST:
                    raise self.broken(number, error.msg) from error
            except (RecursionError, ValueError) as error:
                raise self.broken(number, "it is nested too deeply") from error
            else:
                # A number at the window's end may go on in the next piece.
                if self.ended or end < len(self.window):
                    self.at = end
                    return value
            self.more(count)
            count *= 2  # so that a long row is tried again a few times, not thousands

    def broken(self, number: int, what: str) -> BadInput:
        """The error for an array that cannot be read on."""
        return BadInput(
            f"{self.path.name}, row {number}: the list is not JSON: {what}.",
            mend=f"correct row {number} of {self.path.name}, or write one row on each line",
        )
