"""The rows of an XML file, one at a time, from a file that nobody checked.

Each child of the root is a row; its attributes and children are the row's keys. A list of turns is
written as <message role="user">…</message> elements, in the row itself or in one element of it:

    <faq><entry><question>Who?</question><answer>Ada.</answer></entry></faq>
    <talks><talk><message role="user">Who?</message><message role="assistant">Ada.</message></talk>
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.encodings import open_text
from ollama_ft.kinds.json_rows import LONGEST

DEEPEST = 16  # levels of elements; a row of turns has four


def xml_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield (row number from 1, row). Memory does not grow with the file.

    Document types and entities are refused: they are how a small file becomes a large one, or
    reads another. Raises BadInput for those, for broken XML, and for rows over LONGEST bytes.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException

    number = 0
    try:
        for number, element in enumerate(_elements(path), start=1):
            yield number, _row(element)
    except DefusedXmlException as error:
        raise BadInput(
            f"{path.name} declares a document type or an entity, which is not read: {error}.",
            mend=f"take the <!DOCTYPE …> out of {path.name}",
        ) from error
    except ParseError as error:
        raise BadInput(
            f"{path.name} is not XML behind row {number}: {error}.", mend=f"xmllint {path.name}"
        ) from error


def _elements(path: Path) -> Iterator[Any]:
    from defusedxml.ElementTree import DefusedXMLParser, iterparse

    parser = DefusedXMLParser(encoding="utf-8", forbid_dtd=True)
    depth, begun = 0, 0
    root: Any = None
    with open_text(path) as file:
        counted = _Counted(file)
        for event, element in iterparse(counted, ("start", "end"), parser, forbid_dtd=True):
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            if depth > DEEPEST or counted.read_bytes - begun > LONGEST + (1 << 17):
                raise BadInput(
                    f"{path.name} has a row deeper than {DEEPEST} levels or over "
                    f"{LONGEST >> 20} MB.",
                    mend="write each question and answer as one child of the root",
                )
            if event == "end" and depth == 1:
                yield element
                root.clear()
                begun = counted.read_bytes


class _Counted:
    """A file that counts what was read of it; a recoded one cannot tell its place."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        piece: bytes = self.file.read(size)
        self.read_bytes += len(piece)
        return piece


def _row(element: Any) -> dict[str, object]:
    row: dict[str, object] = dict(element.attrib)
    turns = []
    for child in element:
        if _is_turn(child):
            turns.append(_turn(child))
        else:
            _put(row, child.tag, _value(child))
    return row | {"messages": turns} if turns else row


def _value(element: Any) -> object:
    if len(element) and all(_is_turn(child) for child in element):
        return [_turn(child) for child in element]
    if len(element):
        return [_value(child) for child in element]
    return element.text or ""


def _put(row: dict[str, object], key: str, value: object) -> None:
    """A key that comes again becomes a list of texts: <accept> … <accept>."""
    if key in row:
        earlier = row[key]
        if isinstance(earlier, list):
            earlier.append(value)
        else:
            row[key] = [earlier, value]
    else:
        row[key] = value


def _is_turn(element: Any) -> bool:
    named = "role" in element.attrib or "from" in element.attrib
    parts = {child.tag for child in element}
    return element.tag in ("message", "turn") and (named or bool(parts & {"role", "from"}))


def _turn(element: Any) -> dict[str, object]:
    # Of a text with elements in it the list of those is made, which no reader takes for a text.
    turn: dict[str, object] = {child.tag: _value(child) for child in element}
    turn |= element.attrib
    if not len(element):
        turn["content"] = element.text or ""
    return turn
