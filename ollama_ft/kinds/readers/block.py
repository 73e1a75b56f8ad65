"""What a reader yields, and how the bytes of a text file become text."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.words import unwrapped

MOST_BYTES = 64 << 20  # of a file
MOST_LETTERS = 20_000_000  # of a document: about 40 thick books
MOST_BLOCKS = 500_000

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of a document that belongs together: a paragraph, a heading, a row of a table."""

    kind: str  # "heading" | "text" | "break": what comes after a break is another subject
    text: str = ""
    level: int = 0  # of a heading: 1 is the highest
    page: int | None = None  # 1, 2, 3 …, where there are pages


def decoded(content: bytes) -> str:
    """The text of bytes whose encoding is not told: by BOM, else UTF-8, else GB 18030.

    Raises BadInput for bytes that are neither.
    """
    encoding = next((name for bom, name in _BOMS if content.startswith(bom)), "")
    for wanted in [encoding] if encoding else ["utf-8", "gb18030"]:
        try:
            text = content.decode(wanted)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise BadInput("It is no text in UTF-8, UTF-16 or GB 18030.")


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises BadInput if there is too much of it."""
    if (size := path.stat().st_size) > MOST_BYTES:
        raise BadInput(f"It has {size / 1e6:,.0f} MB; {MOST_BYTES / 1e6:.0f} MB are read at most.")
    return path.read_bytes()


def tidy(text: str) -> str:
    """The text with one space where there was any white space, and none at its ends, nor where a
    line of Chinese ended."""
    return " ".join(unwrapped(text).split())


def tidy_lines(text: str) -> str:
    """Each line tidied for itself, where the writer has ended them; none that is empty."""
    return "\n".join(line for line in map(tidy, text.splitlines()) if line)


def paragraphs(text: str) -> list[str]:
    """The parts of a text between blank lines, with their own line breaks."""
    return [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]
