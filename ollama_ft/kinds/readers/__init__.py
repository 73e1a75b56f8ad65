"""Readers of documents: from a file to blocks of text in reading order, one file a kind.

block.py      what a reader yields, and how bytes become text
plain.py      text files: paragraphs
markdown.py   CommonMark and tables, by markdown-it
html.py       HTML, by lexbor
pdf.py        PDF, page by page, by PDFium
docx.py       Word, by python-docx
apart.py      runs a reader in a process of its own, with bounds on its memory and time
worker.py     that process

A file may be hostile, and some of these parsers are C: no reader runs in a process that has
anything to lose.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import Unsupported
from ollama_ft.core.plugins import Register, collect, hookimpl
from ollama_ft.kinds.readers.block import Block


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How one kind of file is read. `read` imports its parser only when it is called."""

    suffixes: tuple[str, ...]  # ".md", in lower case
    read: Callable[[Path], Iterator[Block]]


def read_text(path: Path) -> Iterator[Block]:
    """Plain text; see plain.py."""
    from ollama_ft.kinds.readers.plain import read

    return read(path)


def read_markdown(path: Path) -> Iterator[Block]:
    """Markdown; see markdown.py."""
    from ollama_ft.kinds.readers.markdown import read

    return read(path)


def read_html(path: Path) -> Iterator[Block]:
    """HTML; see html.py."""
    from ollama_ft.kinds.readers.html import read

    return read(path)


def read_pdf(path: Path) -> Iterator[Block]:
    """PDF; see pdf.py."""
    from ollama_ft.kinds.readers.pdf import read

    return read(path)


def read_docx(path: Path) -> Iterator[Block]:
    """Word; see docx.py."""
    from ollama_ft.kinds.readers.docx import read

    return read(path)


@hookimpl
def register_readers(register: Register) -> None:
    """Offer the built-in readers."""
    register("markdown", Reader(suffixes=(".md", ".markdown"), read=read_markdown))
    register("text", Reader(suffixes=(".txt", ".text"), read=read_text))
    register("html", Reader(suffixes=(".html", ".htm", ".xhtml"), read=read_html))
    register("pdf", Reader(suffixes=(".pdf",), read=read_pdf))
    register("docx", Reader(suffixes=(".docx",), read=read_docx))


def kinds_by_suffix() -> dict[str, str]:
    """The name of the reader for each suffix; of two that know one, the built-in."""
    found: dict[str, str] = {}
    for name, loaded in collect("readers").items():
        for suffix in loaded.thing.suffixes:
            found.setdefault(suffix, name)
    return found


def kind_of(path: Path) -> str:
    """The name of the reader for a file. Raises Unsupported that lists what can be read."""
    known = kinds_by_suffix()
    if path.suffix.lower() not in known:
        raise Unsupported(
            f"{path} is of no kind that is read. Those are: {' '.join(sorted(known))}.",
            mend="convert it to one of them",
        )
    return known[path.suffix.lower()]
