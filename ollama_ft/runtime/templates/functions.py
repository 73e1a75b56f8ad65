"""The functions a template may call: Go's built-in ones, and those that Ollama adds.

A function gets its arguments evaluated, each one of three ways, as its parameter's type in Go says:
VALUE (a `reflect.Value`: interfaces still boxed), ANY (an `interface {}`: unboxed, None for nil),
STRING.
"""

import html
import itertools
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from ollama_ft.runtime.templates import gojson
from ollama_ft.runtime.templates.comparing import FunctionError, equal, less
from ollama_ft.runtime.templates.gotypes import (
    Boxed,
    Byte,
    Map,
    Pointer,
    Slice,
    Value,
    indirect,
    is_true,
    method,
    type_name,
    unbox,
)
from ollama_ft.runtime.templates.limits import Budget
from ollama_ft.runtime.templates.printf import sprintf
from ollama_ft.runtime.templates.printing import Printer


class Parameter(Enum):
    """How an argument is passed."""

    VALUE = auto()
    ANY = auto()
    STRING = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function: its fixed parameters and, where it takes any number more, their kind."""

    fixed: tuple[Parameter, ...] = ()
    rest: Parameter | None = None
    call: Callable[[Budget, list[Value]], Value]


def _index(budget: Budget, arguments: list[Value]) -> Value:
    item = unbox(arguments[0])
    if item is None:
        raise FunctionError("index of untyped nil")
    for boxed in arguments[1:]:
        item, is_nil = indirect(item)
        if is_nil:
            raise FunctionError("index of nil pointer")
        if isinstance(item, str):
            budget.spend(len(item))
        item = _indexed(item, unbox(boxed))
    return item


def _indexed(item: Value, index: Value) -> Value:
    if isinstance(item, Map):
        if not isinstance(index, str):
            what = "is nil" if index is None else f"has type {type_name(index)}"
            ending = "of type string" if index is None else "string"
            raise FunctionError(f"value {what}; should be {ending}")
        items = item.items or {}
        return item.type.element(items[index]) if index in items else _missing(item)
    if isinstance(item, str):
        raw = item.encode("utf-8", "surrogateescape")
        place = _place(index, len(raw))
        if place == len(raw):
            raise FunctionError("reflect: string index out of range")
        return Byte(raw[place])
    if isinstance(item, Slice):
        place = _place(index, len(item))
        if place == len(item):
            raise FunctionError("reflect: slice index out of range")
        return item.type.element(item.at(place))
    raise FunctionError(f"can't index item of type {type_name(item)}")


def _missing(item: Map) -> Value:
    return Boxed(None) if item.type.boxed else item.type.zero()


def _place(index: Value, length: int) -> int:
    if index is None:
        raise FunctionError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise FunctionError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= length:
        raise FunctionError(f"index out of range: {int(index)}")
    return int(index)


def _slice(budget: Budget, arguments: list[Value]) -> Value:
    item, indexes = unbox(arguments[0]), arguments[1:]
    if item is None:
        raise FunctionError("slice of untyped nil")
    if len(indexes) > 3:
        raise FunctionError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        if len(indexes) == 3:
            raise FunctionError("cannot 3-index slice a string")
        budget.spend(len(item))
        raw = item.encode("utf-8", "surrogateescape")
        start, stop = _bounds(indexes, len(raw))
        return raw[start:stop].decode("utf-8", "surrogateescape")
    if isinstance(item, Slice):
        start, stop = _bounds(indexes, len(item))
        return Slice(item.type, item.items, item.start + start, item.start + stop)
    raise FunctionError(f"can't slice item of type {type_name(item)}")


def _bounds(indexes: list[Value], length: int) -> tuple[int, int]:
    """Start and stop; a third index only limits the capacity, which no template can see."""
    places = [_place(index, length) for index in indexes]
    bounds = places + [0, length, length][len(places) :]
    for low, high in itertools.pairwise(bounds[: max(len(places), 2)]):
        if low > high:
            raise FunctionError(f"invalid slice index: {low} > {high}")
    return bounds[0], bounds[1]


def _len(budget: Budget, arguments: list[Value]) -> Value:
    item, is_nil = indirect(arguments[0])
    if is_nil:
        raise FunctionError("len of nil pointer")
    if isinstance(item, str):
        if item.isascii():
            return len(item)
        budget.spend(len(item))
        return len(item.encode("utf-8", "surrogateescape"))
    if isinstance(item, Slice | Map):
        return len(item)
    if item is None:
        raise FunctionError("reflect: call of reflect.Value.Type on zero Value")
    raise FunctionError(f"len of type {type_name(item)}")


def _not(budget: Budget, arguments: list[Value]) -> Value:
    return not is_true(arguments[0])


def _eq(budget: Budget, arguments: list[Value]) -> Value:
    return equal(budget, arguments[0], arguments[1:])


def _ne(budget: Budget, arguments: list[Value]) -> Value:
    return not equal(budget, arguments[0], arguments[1:])


def _lt(budget: Budget, arguments: list[Value]) -> Value:
    return less(budget, arguments[0], arguments[1])


def _le(budget: Budget, arguments: list[Value]) -> Value:
    return less(budget, arguments[0], arguments[1]) or equal(budget, arguments[0], arguments[1:])


def _gt(budget: Budget, arguments: list[Value]) -> Value:
    return not _le(budget, arguments)


def _ge(budget: Budget, arguments: list[Value]) -> Value:
    return not less(budget, arguments[0], arguments[1])


def _call(budget: Budget, arguments: list[Value]) -> Value:
    # No value that a template can reach is a function. The first argument is the callee's text.
    callee = unbox(arguments[1])
    if callee is None:
        raise FunctionError("call of nil")
    raise FunctionError(f"non-function {arguments[0]} of type {type_name(callee)}")


def _print(budget: Budget, arguments: list[Value]) -> Value:
    return Printer(budget).sprint(arguments)


def _println(budget: Budget, arguments: list[Value]) -> Value:
    return Printer(budget).sprintln(arguments)


def _printf(budget: Budget, arguments: list[Value]) -> Value:
    layout = arguments[0]
    assert isinstance(layout, str)
    return sprintf(Printer(budget), layout, arguments[1:])


def _shown(budget: Budget, arguments: list[Value]) -> str:
    """The text that html, js and urlquery escape."""
    if len(arguments) == 1 and isinstance(arguments[0], str):
        budget.spend(len(arguments[0]))
        return arguments[0]
    return Printer(budget).sprint([printable(argument) for argument in arguments])


def printable(value: Value) -> Value:
    """Return what is printed for a value: a pointer's target, `<no value>` for nothing."""
    if isinstance(value, Pointer):
        value = value.target if value.target is not None else value
    return "<no value>" if value is None else value


def _html(budget: Budget, arguments: list[Value]) -> Value:
    text = _shown(budget, arguments).replace("\x00", "\ufffd")
    budget.spend(len(text) * 5)
    return html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


_JS = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
}


_JS_SPECIAL = re.compile(r"[^\x20-\x7f]|[\\'\"<>&=]")


def _js(budget: Budget, arguments: list[Value]) -> Value:
    text = _shown(budget, arguments)
    budget.spend(len(text) * 6)
    return _JS_SPECIAL.sub(_js_char, text)


def _js_char(found: re.Match[str]) -> str:
    char = found[0]
    if char in _JS:
        return _JS[char]
    if char < " ":
        return f"\\u{ord(char):04X}"
    return char if char.isprintable() else f"\\u{ord(char):04X}"


def _urlquery(budget: Budget, arguments: list[Value]) -> Value:
    raw = _shown(budget, arguments).encode("utf-8", "surrogateescape")
    return urllib.parse.quote_plus(raw, safe="")


def _json(budget: Budget, arguments: list[Value]) -> Value:
    try:
        text = gojson.marshal(arguments[0])
    except gojson.NotMarshalled:
        return ""
    budget.spend(len(text))
    return text


def _current_date(budget: Budget, arguments: list[Value]) -> Value:
    return datetime.now().astimezone().date().isoformat()


def _yesterday_date(budget: Budget, arguments: list[Value]) -> Value:
    return (datetime.now().astimezone().date() - timedelta(days=1)).isoformat()


def _type_script(budget: Budget, arguments: list[Value]) -> Value:
    value = arguments[0]
    convert = method(value, "ToTypeScriptType")
    return "any" if convert is None else convert(value)


_V, _A, _S = Parameter.VALUE, Parameter.ANY, Parameter.STRING

BUILT_IN = {
    # `and` and `or` decide while their arguments are evaluated: see execute.py.
    "and": Function(fixed=(_V,), rest=_V, call=_not),
    "or": Function(fixed=(_V,), rest=_V, call=_not),
    "call": Function(fixed=(_V,), rest=_V, call=_call),
    "index": Function(fixed=(_V,), rest=_V, call=_index),
    "slice": Function(fixed=(_V,), rest=_V, call=_slice),
    "len": Function(fixed=(_V,), call=_len),
    "not": Function(fixed=(_V,), call=_not),
    "eq": Function(fixed=(_V,), rest=_V, call=_eq),
    "ne": Function(fixed=(_V, _V), call=_ne),
    "lt": Function(fixed=(_V, _V), call=_lt),
    "le": Function(fixed=(_V, _V), call=_le),
    "gt": Function(fixed=(_V, _V), call=_gt),
    "ge": Function(fixed=(_V, _V), call=_ge),
    "print": Function(rest=_A, call=_print),
    "printf": Function(fixed=(_S,), rest=_A, call=_printf),
    "println": Function(rest=_A, call=_println),
    "html": Function(rest=_A, call=_html),
    "js": Function(rest=_A, call=_js),
    "urlquery": Function(rest=_A, call=_urlquery),
}
OLLAMA = BUILT_IN | {
    "json": Function(fixed=(_A,), call=_json),
    "currentDate": Function(rest=_S, call=_current_date),
    "yesterdayDate": Function(rest=_S, call=_yesterday_date),
    "toTypeScriptType": Function(fixed=(_A,), call=_type_script),
}
