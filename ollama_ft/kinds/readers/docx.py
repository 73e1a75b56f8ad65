"""Word documents: paragraphs, headings by their style, tables row by row.

python-docx opens them; its own text of a paragraph leaves out what stands in a content control, a
text box or a tracked insertion, so we go through the elements ourselves.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from docx import Document
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.ns import qn
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml.etree import XMLSyntaxError

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.readers.block import MOST_BYTES, Block, tidy_lines

if TYPE_CHECKING:
    from docx.document import Document as Opened
    from docx.oxml.xmlchemy import BaseOxmlElement as Element

MOST_ENTRIES = 10_000
_MOST_UNPACKED = 4 * MOST_BYTES
_HEADING = re.compile(r"(?:heading|标题|überschrift|titre) ?([1-9])", re.IGNORECASE)

_BOX = qn("w:txbxContent")
_SAID = {qn(f"w:{name}") for name in ("t", "tab", "ptab", "br", "cr", "noBreakHyphen")}
_PASSED = {qn(f"w:{name}") for name in ("del", "moveFrom", "pPr", "rPr", "sectPr", "rt")}
_PASSED.add("{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback")


def read(path: Path) -> Iterator[Block]:
    """The blocks. Raises BadInput for what is no Word document, or unpacks to too much."""
    _check_archive(path)
    try:
        document = Document(str(path))
    except (PackageNotFoundError, XMLSyntaxError, KeyError, ValueError) as error:
        raise BadInput(f"It is no Word document ({error}).") from error
    yield from _blocks(document.element.body, document)


def _blocks(above: "Element", document: "Opened") -> Iterator[Block]:
    """What stands in an element that holds paragraphs and tables, however deep in controls."""
    for child in above:
        if child.tag == qn("w:p"):
            yield from _paragraph(Paragraph(child, document), document)
        elif child.tag == qn("w:tbl"):
            yield from _rows(Table(child, document), document)
        elif child.tag not in _PASSED:
            yield from _blocks(child, document)


def _paragraph(paragraph: Paragraph, document: "Opened") -> Iterator[Block]:
    parts: list[str] = []
    boxes: list[Element] = []
    _gather(paragraph._element, parts, boxes)
    if text := tidy_lines("".join(parts)):
        style = paragraph.style.name if paragraph.style is not None else ""
        level = _level(style or "")
        yield Block(kind="heading" if level else "text", text=text, level=level)
    for box in boxes:
        yield from _blocks(box, document)


def _gather(above: "Element", parts: list[str], boxes: "list[Element]") -> None:
    for child in above:
        if child.tag == _BOX:
            boxes.append(child)
        elif child.tag in _SAID:
            parts.append(str(child))
        elif child.tag not in _PASSED:
            _gather(child, parts, boxes)


def _level(style: str) -> int:
    if style.lower() == "title":
        return 1
    found = _HEADING.fullmatch(style)
    return int(found[1]) if found else 0


def _rows(table: Table, document: "Opened") -> Iterator[Block]:
    for row in table.rows:
        blocks = [_blocks(cell._element, document) for cell in row.cells]
        cells = [" ".join(" ".join(b.text for b in found).split()) for found in blocks]
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
