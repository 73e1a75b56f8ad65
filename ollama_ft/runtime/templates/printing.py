"""Print Go values as package fmt does: `Sprint`, `Sprintln`, and one operand under a verb.

A `Spec` is what stands between `%` and the verb. Elements of slices, maps and structs are printed
under the same spec. A type with a String method prints by it, under the verbs that take a string.
"""

from dataclasses import dataclass

from ollama_ft.runtime.templates import scalars
from ollama_ft.runtime.templates.gotypes import (
    Boxed,
    Map,
    Pointer,
    Slice,
    Struct,
    Value,
    method,
    type_name,
    unbox,
)
from ollama_ft.runtime.templates.limits import Budget
from ollama_ft.runtime.templates.scalars import Spec

PLAIN = Spec(verb="v")


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints within a budget; raises BadInput when it is used up."""

    budget: Budget

    def sprint(self, operands: list[Value]) -> str:
        """Operands one after the other, a space between two that are both no strings."""
        parts: list[str] = []
        previous_string = True
        for index, operand in enumerate(map(unbox, operands)):
            is_string = isinstance(operand, str)
            if index and not is_string and not previous_string:
                parts.append(" ")
            parts.append(self.format(operand, PLAIN))
            previous_string = is_string
        return "".join(parts)

    def sprintln(self, operands: list[Value]) -> str:
        """Operands with spaces between them and a newline at the end."""
        return " ".join(self.format(operand, PLAIN) for operand in operands) + "\n"

    def format(self, operand: Value, spec: Spec) -> str:
        """Return one operand of a Print function under a verb."""
        if type(operand) is str and spec is PLAIN:
            self.budget.spend(len(operand))
            return operand
        text = self._operand(unbox(operand), spec)
        self.budget.spend(len(text))
        return text

    def _operand(self, value: Value, spec: Spec) -> str:
        if spec.verb == "T":
            shown = "<nil>" if value is None else type_name(value)
            return scalars.pad(shown, spec)
        if value is None:
            return scalars.pad("<nil>", spec) if spec.verb == "v" else self._bad(value, spec)
        return self._value(value, spec, 0)

    def _bad(self, value: Value, spec: Spec) -> str:
        """What stands for an operand that the verb cannot print."""
        if value is None:
            return f"%!{spec.verb}(<nil>)"
        return f"%!{spec.verb}({type_name(value)}={self._value(value, PLAIN, 0)})"

    def _value(self, value: Value, spec: Spec, depth: int) -> str:
        if spec.verb in "vsxXq" and not spec.sharp_v:
            string = method(value, "String")
            if string is not None:
                self.budget.step()
                return scalars.format_string(str(string(value)), spec)
        if isinstance(value, Boxed):
            inner = value.value
            return "<nil>" if inner is None else self._value(inner, spec, depth)
        if value is None:
            return "<nil>"
        if isinstance(value, Slice | Map | Struct | Pointer):
            return self._composite(value, spec, depth)
        shown = scalars.format_scalar(value, spec)
        return self._bad(value, spec) if shown is None else shown

    def _composite(self, value: Slice | Map | Struct | Pointer, spec: Spec, depth: int) -> str:
        self.budget.step()
        if isinstance(value, Slice):
            return self._slice(value, spec, depth)
        if isinstance(value, Map):
            return self._map(value, spec, depth)
        if isinstance(value, Struct):
            return self._struct(value, spec, depth)
        if value.target is not None and depth == 0:
            return "&" + self._value(value.target, spec, 1)
        # Go prints an address, which differs from run to run.
        return "<nil>" if value.target is None else "0xc000000000"

    def _elements(self, values: list[Value], spec: Spec, depth: int) -> list[str]:
        shown = []
        for value in values:
            text = self._value(value, spec, depth + 1)
            self.budget.spend(len(text))
            shown.append(text)
        return shown

    def _slice(self, value: Slice, spec: Spec, depth: int) -> str:
        if isinstance(value.items, bytes) and spec.verb in "sqxX":
            raw = value.items[value.start : value.stop].decode("utf-8", "surrogateescape")
            return scalars.format_string(raw, spec)
        shown = self._elements(value.all(), spec, depth)
        if spec.sharp_v:
            return f"{value.type.name}{{{', '.join(shown)}}}"
        return "[" + " ".join(shown) + "]"

    def _map(self, value: Map, spec: Spec, depth: int) -> str:
        pairs = value.sorted()
        keys = self._elements([key for key, _ in pairs], spec, depth)
        shown = self._elements([item for _, item in pairs], spec, depth)
        joined = [f"{key}:{item}" for key, item in zip(keys, shown, strict=True)]
        if spec.sharp_v:
            return f"{value.type.name}{{{', '.join(joined)}}}"
        return "map[" + " ".join(joined) + "]"

    def _struct(self, value: Struct, spec: Spec, depth: int) -> str:
        names = [field.name for field in value.type.fields]
        shown = self._elements([value.values[name] for name in names], spec, depth)
        if spec.plus or spec.sharp_v:
            shown = [f"{name}:{item}" for name, item in zip(names, shown, strict=True)]
        if spec.sharp_v:
            return f"{value.type.name}{{{', '.join(shown)}}}"
        return "{" + " ".join(shown) + "}"

    def extra(self, operands: list[Value]) -> str:
        """What Printf adds for operands that no verb took."""
        shown = []
        for operand in map(unbox, operands):
            name = "" if operand is None else type_name(operand) + "="
            shown.append(name + self.format(operand, PLAIN))
        return "%!(EXTRA " + ", ".join(shown) + ")"
