"""Read from a template what a model can do with it, by the signs that Ollama goes by."""

from dataclasses import dataclass, field

from ollama_ft.runtime.templates import nodes
from ollama_ft.runtime.templates.names import parts
from ollama_ft.runtime.templates.render import Template

_JINJA_TOOL_ROLES = (
    "role'] == 'tool'",
    'role\'] == "tool"',
    "role\"] == 'tool'",
    'role"] == "tool"',
    "message.role == 'tool'",
    'message.role == "tool"',
)
# Go's unicode.IsSpace, which strings.TrimSpace goes by
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def capabilities(template: Template) -> list[str]:
    """Return what a Go template offers: "completion" and any of "tools", "insert", "thinking"."""
    found = ["completion"]
    if "tools" in template.names:
        found.append("tools")
    if "suffix" in template.names:
        found.append("insert")
    if all(thinking_tags(template)):
        found.append("thinking")
    return found


def tool_round_trip(template: Template) -> bool:
    """Whether a Go template renders calls of tools and their answers."""
    if not {"tools", "toolcalls"} <= set(template.names):
        return False
    signs = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
    return any(sign in template.text for sign in signs)


def is_harmony(template: Template) -> bool:
    """Whether the text has the marks of OpenAI's harmony format."""
    return "<|start|>" in template.text and "<|end|>" in template.text


def thinking_tags(template: Template) -> tuple[str, str]:
    """Return what stands around `.Thinking` in a loop over `.Messages`, as "<think>", "</think>".

    They are the first and the last text of the innermost block that mentions it; "" where there is
    none.
    """
    search = _Search()
    search.visit(template.trees[""])
    return search.opening, search.closing


@dataclass
class _Search:
    """A walk that remembers the way down to where it is."""

    way: list[nodes.Node] = field(default_factory=list)
    opening: str = ""
    closing: str = ""

    def visit(self, node: nodes.Node) -> None:
        self.way.append(node)
        if isinstance(node, nodes.Field) and node.names[0] == "Thinking":
            self.note()
        for part in parts(node):
            self.visit(part)
        self.way.pop()

    def note(self) -> None:
        loop = next((node for node in reversed(self.way) if isinstance(node, nodes.Range)), None)
        if loop is None or not _mentions(loop.pipe, "Messages"):
            return
        block = next(node for node in reversed(self.way) if isinstance(node, nodes.Block))
        first, last = block.nodes[0], block.nodes[-1]
        if isinstance(first, nodes.Text):
            self.opening = first.text.strip(_WHITE_SPACE)
        if isinstance(last, nodes.Text):
            self.closing = last.text.strip(_WHITE_SPACE)


def _mentions(node: nodes.Node, name: str) -> bool:
    if isinstance(node, nodes.Field) and node.names[0] == name:
        return True
    return any(_mentions(part, name) for part in parts(node))


def jinja_capabilities(jinja: str) -> list[str]:
    """Return what a Jinja chat template offers beyond completion: "tools", "thinking"."""
    found = []
    if "tools" in jinja or "tool_call" in jinja:
        found.append("tools")
    # Some templates only cut earlier reasoning off; llama.cpp still parses it from their answers.
    splits = "content.split('</think>')" in jinja or 'content.split("</think>")' in jinja
    cuts = splits and "reasoning_content" not in jinja and "<SPECIAL_12>" not in jinja
    if ("<think>" in jinja and "</think>" in jinja) or cuts:
        found.append("thinking")
    return found


def jinja_tool_round_trip(jinja: str) -> bool:
    """Whether a Jinja chat template renders calls of tools and their answers."""
    calls = "tool_calls" in jinja or "assistant_tool_call" in jinja
    answers = ("tool_response", "tool_results", "ipython", *_JINJA_TOOL_ROLES)
    return calls and any(sign in jinja for sign in answers)
