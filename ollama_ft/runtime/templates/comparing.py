"""`eq`, `ne`, `lt` and their kin: Go compares only values of one basic kind."""

from ollama_ft.runtime.templates.gotypes import (
    Byte,
    Map,
    Pointer,
    Slice,
    Value,
    type_name,
    unbox,
)
from ollama_ft.runtime.templates.limits import Budget

_KINDS = {bool: "bool", str: "string", float: "float", complex: "complex", int: "int", Byte: "int"}


class FunctionError(Exception):
    """A function refuses its arguments; the message is Go's."""


def equal(budget: Budget, first: Value, others: list[Value]) -> bool:
    """Whether `first` equals any of `others`. Raises FunctionError for kinds that differ."""
    if not others:
        raise FunctionError("missing argument for comparison")
    first = unbox(first)
    return any(_same(budget, first, unbox(other)) for other in others)


def _same(budget: Budget, first: Value, other: Value) -> bool:
    kind = _KINDS.get(type(first))
    if kind != _KINDS.get(type(other)):
        if first is not None and other is not None:
            types = f"{type_name(first)} and {type_name(other)}"
            raise FunctionError(f"incompatible types for comparison: {types}")
        return False
    if kind is None:
        return _same_composite(first, other)
    _spend(budget, first, other)
    return first == other


def _same_composite(first: Value, other: Value) -> bool:
    """Two values of no basic kind: nil, pointers, or what Go cannot compare."""
    if _is_nil(first) or _is_nil(other):
        return _is_nil(first) and _is_nil(other)
    if isinstance(first, Pointer) and isinstance(other, Pointer):
        return first.target is other.target
    raise FunctionError(f"non-comparable type: {type_name(other)}")


def _is_nil(value: Value) -> bool:
    if isinstance(value, Slice | Map):
        return value.items is None
    return value is None or (isinstance(value, Pointer) and value.target is None)


def less(budget: Budget, first: Value, other: Value) -> bool:
    """Whether `first` comes before `other`. Raises FunctionError where they have no order."""
    first, other = unbox(first), unbox(other)
    kind, other_kind = _KINDS.get(type(first)), _KINDS.get(type(other))
    if kind is None or other_kind is None:
        raise FunctionError("invalid type for comparison")
    if kind != other_kind:
        raise FunctionError("incompatible types for comparison")
    if isinstance(first, str) and isinstance(other, str):
        _spend(budget, first, other)
        # Go orders by bytes, and code points below a surrogate-escaped byte sort as they do there.
        return first < other
    if isinstance(first, int | float) and isinstance(other, int | float) and kind != "bool":
        return first < other
    raise FunctionError("invalid type for comparison")


def _spend(budget: Budget, first: Value, other: Value) -> None:
    if isinstance(first, str) and isinstance(other, str):
        budget.spend(min(len(first), len(other)))
