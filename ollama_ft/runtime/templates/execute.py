"""Walk a parsed template over a value and collect its text."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from ollama_ft.runtime.templates import nodes
from ollama_ft.runtime.templates.evaluate import Evaluator
from ollama_ft.runtime.templates.functions import printable
from ollama_ft.runtime.templates.gotypes import Map, Slice, Value, indirect, is_true
from ollama_ft.runtime.templates.limits import MAX_NESTING
from ollama_ft.runtime.templates.literals import quote
from ollama_ft.runtime.templates.printing import PLAIN, Printer


class _Leave(Exception):
    """`{{break}}` or `{{continue}}` on its way to its loop."""

    def __init__(self, *, ends: bool) -> None:
        self.ends = ends


def execute(trees: Mapping[str, nodes.Block], root: Value, state: Evaluator) -> str:
    """Return what the template "" of `trees` prints. Raises BadInput with Go's message."""
    run = _Execution(trees, state)
    state.variables = [("$", root)]
    try:
        run.block(root, trees[""])
    except RecursionError:
        state.fail(f"exceeded maximum template depth ({MAX_NESTING})")
    return "".join(run.out)


class _Execution:
    def __init__(self, trees: Mapping[str, nodes.Block], state: Evaluator) -> None:
        self.trees = trees
        self.state = state
        self.printer = Printer(state.budget)
        self.out: list[str] = []

    def block(self, dot: Value, block: nodes.Block) -> None:
        state = self.state
        state.deeper()
        for node in block.nodes:
            state.budget.step()
            if type(node) is nodes.Text:
                state.budget.spend(len(node.text))
                self.out.append(node.text)
            else:
                state.node = node
                _WALKS[type(node)](self, dot, node)
        state.depth -= 1

    def action(self, dot: Value, node: nodes.Action) -> None:
        value = self.state.pipeline(dot, node.pipe)
        if not node.pipe.declared:
            self.state.node = node
            self.out.append(self.printer.format(printable(value), PLAIN))

    def branch(self, dot: Value, node: nodes.If | nodes.With) -> None:
        variables = self.state.variables
        mark = len(variables)
        value = self.state.pipeline(dot, node.pipe)
        if is_true(value):
            self.block(value if type(node) is nodes.With else dot, node.body)
        elif node.otherwise is not None:
            self.block(dot, node.otherwise)
        del variables[mark:]

    def range(self, dot: Value, node: nodes.Range) -> None:
        variables = self.state.variables
        mark = len(variables)
        value, _ = indirect(self.state.pipeline(dot, node.pipe))
        ran = False
        for key, element in self.elements(value, node):
            ran = True
            if not self.iteration(key, element, node):
                break
        if not ran and node.otherwise is not None:
            self.block(dot, node.otherwise)
        del variables[mark:]

    def elements(self, value: Value, node: nodes.Range) -> Iterable[tuple[Value, Value]]:
        """Pairs of key and element; an integer has no keys."""
        if isinstance(value, Slice):
            type_ = value.type
            return ((index, type_.element(value.at(index))) for index in range(len(value)))
        if isinstance(value, Map):
            return ((key, value.type.element(item)) for key, item in value.sorted())
        if value is None:
            return ()
        if not isinstance(value, int) or isinstance(value, bool):
            self.state.fail(f"range can't iterate over {self.printer.sprint([value])}")
        if len(node.pipe.declared) > 1:
            self.state.fail(f"can't use {value} to iterate over more than one variable")
        return ((None, number) for number in range(value))

    def iteration(self, key: Value, element: Value, node: nodes.Range) -> bool:
        """Run the body once; False where it breaks."""
        state = self.state
        state.budget.step()
        self.set_variables(key, element, node.pipe)
        mark, depth, variables = len(state.variables), state.depth, state.variables
        try:
            self.block(element, node.body)
        except _Leave as leave:
            state.depth = depth
            return not leave.ends
        finally:
            del variables[mark:]
        return True

    def set_variables(self, key: Value, element: Value, pipe: nodes.Pipe) -> None:
        names = [variable.names[0] for variable in pipe.declared]
        values = [element] if len(names) == 1 else [key, element]
        pairs = list(zip(names, values, strict=False))
        if not pipe.assigns:
            self.state.variables[len(self.state.variables) - len(names) :] = pairs
            return
        for name, value in pairs:
            self.state.assign(name, value)

    def leave(self, dot: Value, node: nodes.Break | nodes.Continue) -> NoReturn:
        raise _Leave(ends=isinstance(node, nodes.Break))

    def call(self, dot: Value, node: nodes.Call) -> None:
        """`{{template}}`: the other template sees its argument and no variable of this one."""
        state = self.state
        tree = self.trees.get(node.name)
        if tree is None:
            state.fail(f"template {quote(node.name)} not defined")
        argument = None if node.pipe is None else state.pipeline(dot, node.pipe)
        kept = state.name, state.variables
        state.name, state.variables = node.name, [("$", argument)]
        self.block(argument, tree)
        state.name, state.variables = kept


_WALKS: dict[type[nodes.Node], Callable[[_Execution, Value, Any], None]] = {
    nodes.Action: _Execution.action,
    nodes.If: _Execution.branch,
    nodes.With: _Execution.branch,
    nodes.Range: _Execution.range,
    nodes.Break: _Execution.leave,
    nodes.Continue: _Execution.leave,
    nodes.Call: _Execution.call,
}
