"""Which names a template uses: Ollama reads from them what a template can do."""

from collections.abc import Iterable

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates import nodes


def names_in(trees: Iterable[nodes.Block]) -> tuple[str, ...]:
    """Return fields and variables in `trees`, lower case, sorted, each once.

    What stands behind a parenthesis, as in `(index .M 0).Role`, is not seen, nor what is inside it.
    Raises BadInput for a `{{template}}` without an argument, which Ollama refuses.
    """
    return tuple(sorted({name.lower() for tree in trees for name in _names(tree)}))


def _names(node: nodes.Node) -> Iterable[str]:
    if isinstance(node, nodes.Field | nodes.Variable):
        yield from node.names
    for part in parts(node):
        yield from _names(part)


def parts(node: nodes.Node) -> list[nodes.Node]:
    """Return the parts of a node in which Ollama looks for names, in the order of the text."""
    if isinstance(node, nodes.Block):
        return node.nodes
    if isinstance(node, nodes.Action):
        return [node.pipe]
    if isinstance(node, nodes.Branch):
        return [node.pipe, node.body, *([node.otherwise] if node.otherwise else [])]
    if isinstance(node, nodes.Pipe):
        return [operand for command in node.commands for operand in command.operands]
    if isinstance(node, nodes.Call):
        if node.pipe is None:
            raise BadInput("undefined template specified")
        return [node.pipe]
    return []
