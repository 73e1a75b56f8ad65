"""Print Go values as `json.Marshal` does: compact, map keys sorted, `<`, `>`, `&` escaped."""

import base64
import json
import re
from collections.abc import Callable, Iterable

from ollama_ft.runtime.templates.gotypes import Boxed, Map, Pointer, Slice, Struct, Value
from ollama_ft.runtime.templates.scalars import plain_float

_ESCAPED = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_SPECIAL = re.compile("[<>&\u2028\u2029\udc80-\udcff]")


class NotMarshalled(ValueError):
    """Go's encoder has no form for the value."""


def marshal(value: Value) -> str:
    """Return the JSON text of a value. Raises NotMarshalled for complex numbers."""
    if isinstance(value, Slice | Struct) and value.type.marshal is not None:
        return value.type.marshal(value)
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    raise NotMarshalled


def _null(value: Value) -> str:
    return "null"


def _boolean(value: Value) -> str:
    return "true" if value else "false"


def _string(value: Value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _SPECIAL.sub(lambda found: _ESCAPED.get(found[0], "\\ufffd"), text)


def _float(value: Value) -> str:
    """Shortest digits; an exponent below 1e-6 and from 1e21 on (encoding/json)."""
    assert isinstance(value, float)
    if value != 0 and not 1e-6 <= abs(value) < 1e21:
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
    return plain_float(value)


def _boxed(value: Value) -> str:
    assert isinstance(value, Boxed)
    return marshal(value.value)


def _pointer(value: Value) -> str:
    assert isinstance(value, Pointer)
    return marshal(value.target)


def _slice(value: Value) -> str:
    assert isinstance(value, Slice)
    if value.items is None:
        return "null"
    if isinstance(value.items, bytes):
        return '"' + base64.b64encode(value.items[value.start : value.stop]).decode() + '"'
    return "[" + ",".join(map(marshal, value.all())) + "]"


def _map(value: Value) -> str:
    assert isinstance(value, Map)
    if value.items is None:
        return "null"
    return json_object(value.sorted())


def json_object(pairs: Iterable[tuple[str, Value]]) -> str:
    """Return a JSON object with its keys in the order given."""
    return "{" + ",".join(f"{_string(key)}:{marshal(item)}" for key, item in pairs) + "}"


def _struct(value: Value) -> str:
    assert isinstance(value, Struct)
    parts = []
    for field in value.type.fields:
        item = value.values[field.name]
        if not (field.omit_empty and _is_empty(item)):
            parts.append(f"{_string(field.json or field.name)}:{marshal(item)}")
    return "{" + ",".join(parts) + "}"


def _is_empty(value: Value) -> bool:
    """What `omitempty` leaves out."""
    if isinstance(value, Slice | Map):
        return len(value) == 0
    if isinstance(value, Pointer):
        return value.target is None
    if isinstance(value, Boxed):
        return value.value is None
    return value is None or value == "" or value is False or value == 0


_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Value], str]], ...] = (
    (type(None), _null),
    (str, _string),
    (bool, _boolean),
    (int, str),
    (float, _float),
    (Boxed, _boxed),
    (Slice, _slice),
    (Map, _map),
    (Struct, _struct),
    (Pointer, _pointer),
)
