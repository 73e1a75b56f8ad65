"""Text files: a block for each paragraph."""

from collections.abc import Iterator
from pathlib import Path

from ollama_ft.kinds.readers.block import Block, decoded, paragraphs, read_bytes


def read(path: Path) -> Iterator[Block]:
    """The paragraphs. Raises BadInput for what is no text."""
    text = decoded(read_bytes(path)).replace("\r\n", "\n").replace("\r", "\n")
    for paragraph in paragraphs(text.replace("\f", "\n\n")):
        yield Block(kind="text", text=paragraph)
