"""Text files in the encodings that people have: UTF-8, UTF-16 and GB18030, all read as UTF-8."""

import codecs
import io
import re
from pathlib import Path
from typing import IO, cast

from ollama_ft.core.errors import BadInput, NotFound

PIECE = 1 << 16  # bytes read at once
SAMPLE = 1 << 17  # bytes that decide, from the first ones outside ASCII

# How files begin that are often given by mistake: (first bytes, what they are, what to do).
_BEGINNINGS = (
    (b"\x1f\x8b", "is compressed", "gunzip {name}"),
    (b"PK\x03\x04", "is a zip archive", "unzip {name}; a spreadsheet: save it as CSV"),
    (b"GGUF", "is a model, not data", "give a file with questions and answers"),
)
# In this order: UTF-32 begins like UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"""\A<\?xml[^>]{0,200}?encoding=["']([A-Za-z0-9_.-]{1,40})["']""")
# What a file that is not UTF-8 is compared with. GB18030 holds GBK and GB2312.
_GUESSES = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "cp1251", "koi8_r"]


def open_text(path: Path) -> IO[bytes]:
    """Open a text file for reading as UTF-8, whatever it is written in; no mark in front.

    The encoding is told by a mark, by an XML declaration, or by looking. Memory does not grow with
    the file.

    Raises NotFound if there is no file; BadInput if it is no text, or text in an encoding that
    cannot be told for certain. Reading on raises BadInput where the text breaks its encoding.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise NotFound(f"{path} {kind}.", mend="give a file with questions and answers")
    encoding = detect(path)
    if encoding in ("utf-8", "utf-8-sig"):
        file = path.open("rb")
        file.seek(3 if encoding == "utf-8-sig" else 0)
        return file
    return cast(IO[bytes], io.BufferedReader(_Recoder(path, encoding), PIECE))


def detect(path: Path) -> str:
    """The encoding of a text file, by Python's name. Raises BadInput if it cannot be told."""
    with path.open("rb") as file:
        head = file.read(4096)
        for start, what, mend in _BEGINNINGS:
            if head.startswith(start):
                raise BadInput(f"{path.name} {what}.", mend=mend.format(name=path.name))
        for mark, encoding in _MARKS:
            if head.startswith(mark):
                return encoding
        if declared := _declared(head):
            return declared
        if b"\x00" in head:
            return _unmarked_utf16(path, head)
        file.seek(0)
        sample = _first_outside_ascii(file)
    return "utf-8" if _is_utf8(sample) else _guessed(path, sample)


def _declared(head: bytes) -> str:
    match = _DECLARED.match(head)
    try:
        return codecs.lookup(match[1].decode()).name if match else ""
    except LookupError:
        return ""


def _unmarked_utf16(path: Path, head: bytes) -> str:
    # ASCII characters, which any such file has, put their NULs on one side.
    even, odd = head[::2].count(0), head[1::2].count(0)
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    text = head[: len(head) & ~1].decode(encoding, errors="replace")
    one_sided = max(even, odd) >= 4 and min(even, odd) * 20 <= max(even, odd)
    if one_sided and "\x00" not in text and "\ufffd" not in text[:-1]:
        return encoding
    raise BadInput(f"{path.name} is no text: it has NUL bytes.", mend=f"save {path.name} as UTF-8")


def _first_outside_ascii(file: IO[bytes]) -> bytes:
    """Whole lines from the first one that is not ASCII; empty if all are."""
    while piece := file.readline(SAMPLE):
        if not piece.isascii():
            more = file.read(SAMPLE)
            return piece + (more[: more.rfind(b"\n") + 1] if len(more) == SAMPLE else more)
    return b""


def _is_utf8(sample: bytes) -> bool:
    """Whether most of what is beyond ASCII is UTF-8; single broken lines are their rows' fault.

    A short word in another encoding can be UTF-8 by chance, so that bytes are weighed, not lines.
    """
    if _decodes(sample):
        return True
    weight = 0
    for line in sample.split(b"\n"):
        beyond = sum(byte > 127 for byte in line)
        weight += beyond if _decodes(line) else -beyond
    return weight > 0


def _decodes(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guessed(path: Path, sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=_GUESSES).best()
    if best is not None and best.encoding == "gb18030":
        return "gb18030"
    guess = f"; it looks like {best.encoding}" if best else ""
    source = best.encoding.upper() if best else "CP1252"
    raise BadInput(
        f"{path.name} is not UTF-8, UTF-16 or GB18030{guess}.",
        mend=f"iconv -f {source} -t UTF-8 {path.name} > utf8-{path.name}",
    )


class _Recoder(io.RawIOBase):
    """A file in another encoding, read as UTF-8."""

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__()
        self._path = path
        self._file = path.open("rb")
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        while not self._ready:
            piece = self._file.read(PIECE)
            self._ready = self._decode(piece)
            if not piece and not self._ready:
                return 0
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decode(self, piece: bytes) -> bytes:
        try:
            return self._decoder.decode(piece, not piece).encode()
        except UnicodeError as error:
            raise BadInput(
                f"{self._path.name} is not {self._encoding} throughout: it breaks near byte "
                f"{self._file.tell()}.",
                mend=f"save {self._path.name} as UTF-8",
            ) from error

    def close(self) -> None:
        self._file.close()
        super().close()
