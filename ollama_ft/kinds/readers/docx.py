"""Word documents: paragraphs, headings by their style, tables row by row."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from docx import Document
from docx.opc.exceptions import PackageNotFoundError
from docx.table import Table
from lxml.etree import XMLSyntaxError

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.readers.block import MOST_BYTES, Block, tidy

MOST_ENTRIES = 10_000
_MOST_UNPACKED = 4 * MOST_BYTES
_HEADING = re.compile(r"(?:heading|标题|überschrift|titre) ?([1-9])", re.IGNORECASE)


def read(path: Path) -> Iterator[Block]:
    """The blocks. Raises BadInput for what is no Word document, or unpacks to too much."""
    _check_archive(path)
    try:
        document = Document(str(path))
    except (PackageNotFoundError, XMLSyntaxError, KeyError, ValueError) as error:
        raise BadInput(f"It is no Word document ({error}).") from error
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            yield from _rows(item)
        elif text := tidy(item.text):
            style = item.style.name if item.style is not None else ""
            level = _level(style or "")
            yield Block(kind="heading" if level else "text", text=text, level=level)


def _level(style: str) -> int:
    if style.lower() == "title":
        return 1
    found = _HEADING.fullmatch(style)
    return int(found[1]) if found else 0


def _rows(table: Table) -> Iterator[Block]:
    for row in table.rows:
        cells = [tidy(cell.text) for cell in row.cells]
        merged = [text for at, text in enumerate(cells) if at == 0 or text != cells[at - 1]]
        if any(merged):
            yield Block(kind="text", text=" | ".join(merged))


def _check_archive(path: Path) -> None:
    """Look at the archive's directory before anything is unpacked; zipfile holds it to that."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInput(f"It is no Word document ({error}).") from error
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_ENTRIES or unpacked > _MOST_UNPACKED:
        raise BadInput(
            f"It unpacks to {unpacked / 1e6:,.0f} MB in {len(entries):,} files; "
            f"{_MOST_UNPACKED / 1e6:.0f} MB in {MOST_ENTRIES:,} are read at most."
        )
