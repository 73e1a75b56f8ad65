"""Evaluate pipelines: commands, operands, fields, methods and functions.

`{{.X}}` looks up a map's key or a struct's field, or calls a method. What fails, fails as in Go:
"template: :LINE:COLUMN: executing NAME at <NODE>: what is wrong", with the column in bytes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates import nodes
from ollama_ft.runtime.templates.comparing import FunctionError
from ollama_ft.runtime.templates.functions import Function, Parameter
from ollama_ft.runtime.templates.gotypes import (
    Boxed,
    Map,
    Struct,
    Value,
    indirect,
    is_true,
    method,
    type_name,
    unbox,
)
from ollama_ft.runtime.templates.limits import MAX_NESTING, Budget
from ollama_ft.runtime.templates.literals import quote

_MISSING = object()  # no value comes from an earlier stage of the pipeline


class Evaluator:
    """The state of one run: variables, and the node and template at work, which errors name.

    With `missing_is_zero` a missing key of a map is a nil of the map's element type (Go's
    `missingkey=zero`); without, it is nothing at all, and so are its fields.
    """

    def __init__(
        self,
        *,
        text: str,
        functions: Mapping[str, Function],
        budget: Budget,
        missing_is_zero: bool,
    ) -> None:
        self.text = text
        self.functions = functions
        self.budget = budget
        self.missing_is_zero = missing_is_zero
        self.variables: list[tuple[str, Value]] = []
        self.name = ""
        self.node: nodes.Node = nodes.Block(0)
        self.depth = 0

    def fail(self, message: str) -> NoReturn:
        """Raise BadInput with the place of the node at work."""
        before = self.text[: self.node.position]
        line_start = before.rfind("\n") + 1
        line = before.count("\n") + 1
        column = len(before[line_start:].encode("utf-8", "surrogateescape"))
        where = f"template: :{line}:{column}: executing {quote(self.name)}"
        raise BadInput(f"{where} at <{self.node}>: {message}")

    def deeper(self) -> None:
        """Count one more level of blocks, parentheses and templates within each other."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail(f"exceeded maximum template depth ({MAX_NESTING})")

    def pipeline(self, dot: Value, pipe: nodes.Pipe) -> Value:
        """Evaluate a pipeline and set the variables that it declares."""
        self.deeper()
        self.node = pipe
        value: Value = _MISSING
        for command in pipe.commands:
            value = self._command(dot, command, value)
            if type(value) is Boxed:
                value = value.value
        for variable in pipe.declared:
            if pipe.assigns:
                self.assign(variable.names[0], value)
            else:
                self.variables.append((variable.names[0], value))
        self.depth -= 1
        return value

    def assign(self, name: str, value: Value) -> None:
        """Set the innermost variable of that name."""
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        self.fail(f"undefined variable: {name}")

    def _lookup(self, name: str) -> Value:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        self.fail(f"undefined variable: {name}")

    def _command(self, dot: Value, command: nodes.Command, final: Value) -> Value:
        self.budget.step()
        operands = command.operands
        first = operands[0]
        if type(first) is nodes.Identifier:
            return self._function(dot, first, command, operands[1:], final)
        has_arguments = len(operands) > 1 or final is not _MISSING
        if type(first) is nodes.Field:
            self.node = first
            return self._fields(dot, first.names, has_arguments, operands, final)
        if type(first) is nodes.Variable and len(first.names) > 1:
            self.node = first
            start = self._lookup(first.names[0])
            return self._fields(start, first.names[1:], has_arguments, operands, final)
        if type(first) is nodes.Chain:
            return self._chain(dot, first, has_arguments, operands, final)
        if type(first) is not nodes.Pipe:
            self.node = first
        if has_arguments:
            self.fail(f"can't give argument to non-function {first}")
        if type(first) is nodes.Nil:
            self.fail("nil is not a command")
        return self._operand(dot, first)

    def _operand(self, dot: Value, node: nodes.Node) -> Value:
        """A value that stands by itself, as a command or as an argument."""
        kind = type(node)
        if kind is nodes.Pipe:
            return self.pipeline(dot, node)  # type: ignore[arg-type]
        self.node = node
        return _OPERANDS[kind](self, dot, node)

    def _dot(self, dot: Value, node: nodes.Dot) -> Value:
        return dot

    def _bool(self, dot: Value, node: nodes.Bool) -> Value:
        return node.value

    def _string(self, dot: Value, node: nodes.StringLiteral) -> Value:
        return node.text

    def _field(self, dot: Value, node: nodes.Field) -> Value:
        return self._fields(dot, node.names, False, [node], _MISSING)

    def _variable(self, dot: Value, node: nodes.Variable) -> Value:
        value = self._lookup(node.names[0])
        if len(node.names) == 1:
            return value
        return self._fields(value, node.names[1:], False, [node], _MISSING)

    def _identifier(self, dot: Value, node: nodes.Identifier) -> Value:
        return self._function(dot, node, node, [], _MISSING)

    def _bare_chain(self, dot: Value, node: nodes.Chain) -> Value:
        return self._chain(dot, node, False, [node], _MISSING)

    def _number(self, dot: Value, node: nodes.NumberLiteral) -> Value:
        """The kind of a number follows from how it is written."""
        number, text = node.number, node.text
        if number.complex_ is not None:
            return number.complex_
        hexadecimal = text[:2].lower() == "0x" and not any(mark in text for mark in "pP")
        if not hexadecimal and text[0] != "'" and any(mark in text for mark in ".eEpP"):
            return number.real
        if number.integer is None:
            self.fail(f"{text} overflows int")
        return number.integer

    def _chain(
        self, dot: Value, node: nodes.Chain, has: bool, operands: list[nodes.Node], final: Value
    ) -> Value:
        self.node = node
        if type(node.term) is nodes.Nil:
            self.fail(f"indirection through explicit nil in {node}")
        self.node = node.term
        start = self._operand(dot, node.term)
        return self._fields(start, node.names, has, operands, final)

    def _fields(
        self,
        receiver: Value,
        names: tuple[str, ...],
        has_arguments: bool,
        operands: list[nodes.Node],
        final: Value,
    ) -> Value:
        """Follow field after field; only the last one may take arguments, if it is a method."""
        for name in names[:-1]:
            receiver = self._get(receiver, name, 0)
        count = len(operands) - 1 + (final is not _MISSING) if has_arguments else 0
        return self._get(receiver, names[-1], count)

    def _get(self, receiver: Value, name: str, arguments: int) -> Value:
        if receiver is None:
            return None
        value, is_nil = indirect(receiver)
        if is_nil and type(value) is Boxed:
            self.fail(f"nil pointer evaluating {type_name(receiver)}.{name}")
        called = method(receiver, name) or method(value, name)
        if arguments:
            self._refuse_arguments(value, name, arguments, is_method=called is not None)
        if called is not None:
            self.budget.step()
            return called(value)
        if type(value) is Map:
            return self._key(value, name)
        if type(value) is Struct and name in value.values:
            return value.values[name]
        self.fail(f"can't evaluate field {name} in type {type_name(receiver)}")

    def _refuse_arguments(self, value: Value, name: str, count: int, *, is_method: bool) -> None:
        if is_method:
            self.fail(f"wrong number of args for {name}: want 0 got {count}")
        if isinstance(value, Map):
            self.fail(f"{name} is not a method but has arguments")
        if isinstance(value, Struct) and name in value.values:
            self.fail(f"{name} has arguments but cannot be invoked as function")

    def _key(self, value: Map, name: str) -> Value:
        items = value.items
        if items is not None and name in items:
            item = items[name]
            return Boxed(item) if value.type.boxed else item
        if not self.missing_is_zero:
            return None
        return Boxed(None) if value.type.boxed else value.type.zero()

    def _function(
        self,
        dot: Value,
        node: nodes.Identifier,
        command: nodes.Node,
        arguments: list[nodes.Node],
        final: Value,
    ) -> Value:
        self.node = node
        name = node.name
        function = self.functions.get(name)
        if function is None:
            self.fail(f"{quote(name)} is not a defined function")
        self._check_count(function, name, len(arguments), final is not _MISSING)
        if name in ("and", "or"):
            return self._short_circuit(dot, arguments, final, stops_on=name == "or")
        kinds = [*function.fixed, *[function.rest] * (len(arguments) + 1 - len(function.fixed))]
        values = [
            self._argument(dot, kind, argument)
            for kind, argument in zip(kinds, arguments, strict=False)
        ]
        if final is not _MISSING:
            values.append(self._passed(final, kinds[len(arguments)]))
        if name == "call":
            values.insert(0, str(arguments[0]) if arguments else _final_text(final))
        try:
            return function.call(self.budget, values)
        except FunctionError as error:
            self.node = command
            self.fail(f"error calling {name}: {error}")

    def _check_count(self, function: Function, name: str, written: int, piped: bool) -> None:
        want, got = len(function.fixed), written + piped
        if function.rest is not None and got < want:
            self.fail(f"wrong number of args for {name}: want at least {want} got {written}")
        if function.rest is None and got != want:
            self.fail(f"wrong number of args for {name}: want {want} got {got}")

    def _short_circuit(
        self, dot: Value, arguments: list[nodes.Node], final: Value, *, stops_on: bool
    ) -> Value:
        """`and`, `or`: the first argument that decides, else the last one."""
        value: Value = None
        for argument in arguments:
            value = self._argument(dot, Parameter.VALUE, argument)
            if is_true(value) == stops_on:
                return value
        return value if final is _MISSING else final

    def _argument(self, dot: Value, kind: Parameter | None, node: nodes.Node) -> Value:
        self.node = node
        if type(node) is nodes.Nil:
            if kind is Parameter.STRING:
                self.fail("cannot assign nil to string")
            return None
        if kind is Parameter.STRING and isinstance(node, nodes.Bool | nodes.NumberLiteral):
            self.fail(f"expected string; found {node}")
        return self._passed(self._operand(dot, node), kind)

    def _passed(self, value: Value, kind: Parameter | None) -> Value:
        """Fit a value to a parameter."""
        if kind is Parameter.VALUE:
            return value
        inner = unbox(value)
        if kind is Parameter.ANY or isinstance(inner, str):
            return inner
        if value is None:
            self.fail("invalid value; expected string")
        got = type_name(value if inner is None else inner)
        self.fail(f"wrong type for value; expected string; got {got}")


def _final_text(value: Value) -> str:
    return value if isinstance(value, str) else f"<{type_name(value)} Value>"


_OPERANDS: dict[type[nodes.Node], Callable[[Evaluator, Value, Any], Value]] = {
    nodes.Dot: Evaluator._dot,
    nodes.Bool: Evaluator._bool,
    nodes.StringLiteral: Evaluator._string,
    nodes.NumberLiteral: Evaluator._number,
    nodes.Field: Evaluator._field,
    nodes.Variable: Evaluator._variable,
    nodes.Identifier: Evaluator._identifier,
    nodes.Chain: Evaluator._bare_chain,
    nodes.Pipe: Evaluator.pipeline,
}
