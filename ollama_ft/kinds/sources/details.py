"""What Open WebUI writes into an answer beside it: thinking and tool calls, in <details> blocks."""

import html
import re
from dataclasses import dataclass

# A block that was never closed goes to the end.
_BLOCK = re.compile(
    r'<details\s+type="(reasoning|code_interpreter|tool_calls)"([^<>]*)>(.*?)(?:</details>|\Z)',
    re.DOTALL,
)
_NAME = re.compile(r'\bname="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Parts:
    """An answer taken apart."""

    content: str
    thinking: str
    calls: tuple[str, ...]  # the names of the tools


def without_details(content: str) -> Parts:
    """What was answered, what was thought, and which tools were called."""
    pieces, thoughts, calls, end = [], [], [], 0
    for block in _BLOCK.finditer(content):
        kind, head, inside = block.groups()
        if kind == "reasoning":
            thoughts.append(_thought(inside))
        else:
            calls.append(_tool(kind, head))
        pieces.append(content[end : block.start()])
        end = block.end()
    if not end:
        return Parts(content=content, thinking="", calls=())
    pieces = [piece.strip() for piece in (*pieces, content[end:])]
    return Parts(
        content="\n".join(filter(None, pieces)),
        thinking="\n".join(filter(None, thoughts)),
        calls=tuple(calls),
    )


def _tool(kind: str, head: str) -> str:
    named = _NAME.search(head)
    return html.unescape(named[1]) if named else kind


def _thought(inside: str) -> str:
    """The text of a block: behind its summary, written as HTML and as a quotation."""
    _, _, behind = inside.partition("</summary>")
    lines = html.unescape(behind or inside).strip().split("\n")
    return "\n".join(re.sub("^> ?", "", line) for line in lines)
