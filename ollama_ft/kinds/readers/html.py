"""HTML: what is read by people, without menus, scripts and what is typed into."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.readers.block import Block, decoded, read_bytes, tidy, tidy_lines

_LEFT_OUT = ["script", "style", "noscript", "template", "svg", "nav", "iframe", "aside"]
_LEFT_OUT += ["button", "select", "textarea", "dialog"]
_OWN = {"p", "div", "li", "dt", "dd", "blockquote", "pre", "section", "article", "main", "header"}
_OWN |= {"footer", "body", "td", "th", "tr", "table", "ul", "ol", "dl", "address", "figcaption"}
_OWN |= {"caption", "summary", "details", "h1", "h2", "h3", "h4", "h5", "h6"}
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([a-zA-Z0-9_-]{2,20})", re.IGNORECASE)
_ASCII = bytes(range(32, 127))


def read(path: Path) -> Iterator[Block]:
    """The title, then the blocks. Raises BadInput for what is no text."""
    tree = LexborHTMLParser(_decoded(read_bytes(path)))
    title = tree.css_first("title")
    if title is not None and tidy(title.text()):
        yield Block(kind="heading", text=tidy(title.text()), level=1)
    yield from _blocks(tree)


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page or of a part of one."""
    yield from _blocks(LexborHTMLParser(text))


def _blocks(tree: LexborHTMLParser) -> Iterator[Block]:
    tree.strip_tags(_LEFT_OUT, recursive=True)
    if tree.body is None:
        return
    for owner, parts in _owned(tree.body):
        if owner.tag == "hr":
            yield Block(kind="break")
        elif said := (tidy_lines if owner.tag == "pre" else tidy)("".join(parts)):
            heading = re.fullmatch(r"h([1-6])", owner.tag or "")
            level = int(heading[1]) if heading else 0
            yield Block(kind="heading" if level else "text", text=said, level=level)


def _owned(body: LexborNode) -> Iterator[tuple[LexborNode, list[str]]]:
    """Runs of text with the element that they stand in: a paragraph, a row …, not a mere <b>.

    A child's owner is known from its parent's, which came before, so that depth costs nothing.
    """
    owners: dict[int, LexborNode] = {}
    current, parts = body, list[str]()
    for node in body.traverse(include_text=True):
        parent = node.parent
        above = owners.get(parent.mem_id, body) if parent is not None else body
        if node.tag == "hr":
            yield current, parts
            yield node, []
            parts = []
        elif node.tag == "br":
            parts.append(" ")
        elif node.tag != "-text":
            owners[node.mem_id] = _owner(node, above)
            if node.tag in ("td", "th") and parts and current.mem_id == owners[node.mem_id].mem_id:
                parts.append(" | ")
        else:
            if above.mem_id != current.mem_id:
                yield current, parts
                current, parts = above, []
            parts.append(node.text(deep=False))
    yield current, parts


def _owner(node: LexborNode, above: LexborNode) -> LexborNode:
    if above.tag == "tr":  # a row is one block, whatever stands in its cells
        return above
    return node if node.tag in _OWN else above


def _decoded(content: bytes) -> str:
    try:
        return _named(content) or decoded(content)
    except BadInput:
        return content.decode("latin-1")


def _named(content: bytes) -> str:
    """The text in the encoding that the page names; "" if it names none, or cannot be in it.

    A page whose bytes can be searched for a name in ASCII is in no encoding that is not like it.
    """
    said = _CHARSET.search(content[:4096])
    if said is None or content.startswith(codecs.BOM_UTF8):
        return ""
    name = said[1].decode("ascii")
    try:
        is_like_ascii = _ASCII.decode(name) == _ASCII.decode("ascii")
        return content.decode(name) if is_like_ascii else ""
    except (LookupError, UnicodeError):
        return ""
