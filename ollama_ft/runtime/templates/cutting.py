"""Cut a tree after the first `.Response`: the model writes what comes after it."""

from dataclasses import replace

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates import nodes


def cut_after_response(tree: nodes.Block) -> nodes.Block:
    """Return a copy of `tree` without what follows the first `.Response` field in document order.

    A `.Response` in the condition of an if, with or range does not count. Raises BadInput where the
    cut would fall inside an if that has an else: Ollama's server fails there, too.
    """
    cut = _Cut()
    kept = cut.block(tree)
    assert kept is not None
    return kept


class _Cut:
    def __init__(self) -> None:
        self.made = False

    def block(self, block: nodes.Block) -> nodes.Block | None:
        if self.made:
            return None
        kept = [node for node in map(self.node, block.nodes) if node is not None]
        return replace(block, nodes=kept)

    def node(self, node: nodes.Node) -> nodes.Node | None:
        if self.made:
            return None
        if isinstance(node, nodes.Branch):
            return self.branch(node)
        if isinstance(node, nodes.Action):
            pipe = self.pipe(node.pipe)
            return None if pipe is None else replace(node, pipe=pipe)
        if isinstance(node, nodes.Pipe):
            return self.pipe(node)
        self.made = isinstance(node, nodes.Field) and "Response" in node.names
        return node

    def branch(self, node: nodes.Branch) -> nodes.Branch:
        body = self.block(node.body)
        assert body is not None
        otherwise = None
        if node.otherwise is not None:
            otherwise = self.block(node.otherwise)
            if otherwise is None:
                raise BadInput(
                    "panic: interface conversion: parse.Node is nil, not *parse.ListNode",
                    mend="move {{ .Response }} out of the {{ if }} that has an {{ else }}",
                )
        return replace(node, body=body, otherwise=otherwise)

    def pipe(self, pipe: nodes.Pipe) -> nodes.Pipe | None:
        """Drop operands after the cut; a command that loses all takes the whole pipeline along."""
        commands = []
        for command in pipe.commands:
            operands = [one for one in map(self.node, command.operands) if one is not None]
            if not operands:
                return None
            commands.append(replace(command, operands=operands))
        return replace(pipe, commands=commands)
