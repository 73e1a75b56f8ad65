"""Turn messages and tools, as a client sends them in JSON, into what Ollama's templates see.

The Go side decodes JSON into fixed types, so unknown keys vanish, numbers become floats and a value
of another type is refused. Field names are Go's: `.Messages[].ToolCalls[].Function.Arguments` and
so on.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from ollama_ft.core.errors import BadInput
from ollama_ft.core.words import without_halves
from ollama_ft.runtime.templates import gojson
from ollama_ft.runtime.templates.gotypes import (
    Boxed,
    FieldType,
    GoType,
    Map,
    Pointer,
    Slice,
    Struct,
    Value,
)

MAX_JSON_DEPTH = 48  # of lists and objects within each other in arguments and schemas

_NESTED = ""  # the hidden field of a ToolPropertiesMap: no template can spell it

_Json = Mapping[str, object]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Values:
    """What a prompt is rendered from. `messages` and `tools` are plain JSON; None is Go's nil.

    `think_level` is "" unless thinking is on ("medium" for a plain `true`); `is_think_set` says
    whether the request or the server set `think` at all.
    """

    messages: Sequence[_Json] | None = None
    tools: Sequence[_Json] | None = None
    prompt: str = ""
    suffix: str = ""
    think: bool = False
    think_level: str = ""
    is_think_set: bool = False


def _fields(*names: str) -> tuple[FieldType, ...]:
    """Fields from "Name", "Name json" or "Name json?" where `?` leaves the empty one out."""
    parts = (name.partition(" ") for name in names)
    return tuple(
        FieldType(name, json.rstrip("?"), omit_empty=json.endswith("?")) for name, _, json in parts
    )


def _json_text(value: Value) -> str:
    return gojson.marshal(value)


def _json_or_braces(value: Value) -> str:
    assert isinstance(value, Map)
    return "{}" if value.items is None else gojson.marshal(value)


_JSON_STRING = {"String": _json_text}
_BRACES_STRING = {"String": _json_or_braces}


def _type_text(value: Value) -> str:
    assert isinstance(value, Slice)
    return str(value.at(0)) if len(value) == 1 else _list_text(value)


def _list_text(value: Slice) -> str:
    return "[" + " ".join(map(str, value.all())) + "]" if len(value) else ""


def _type_json(value: Value) -> str:
    """One type stands for itself, several as a list."""
    assert isinstance(value, Slice)
    return gojson.marshal(value.at(0) if len(value) == 1 else Slice(STRINGS, value.all()))


def _properties_json(value: Value) -> str:
    """Nested properties keep their order, unlike those of a tool itself."""
    assert isinstance(value, Struct)
    nested = value.values[_NESTED]
    assert isinstance(nested, Map)
    return gojson.json_object((nested.items or {}).items())


_TYPE_SCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _type_script(value: Value) -> str:
    assert isinstance(value, Struct)
    choices, types = value.values["AnyOf"], value.values["Type"]
    assert isinstance(choices, Slice)
    assert isinstance(types, Slice)
    if choices:
        return " | ".join(map(_type_script, choices.all()))
    return " | ".join(_TYPE_SCRIPT.get(str(name), "any") for name in types.all()) or "any"


ROOT = GoType("map[string]interface {}", boxed=True)
ANY_MAP = ROOT
ANY_SLICE = GoType("[]interface {}", boxed=True)
STRINGS = GoType("[]string")
MESSAGES = GoType("[]*template.templateMessage")
MESSAGE_POINTER = GoType("*template.templateMessage")
MESSAGE = GoType(
    "template.templateMessage",
    fields=_fields("Role", "Content", "Thinking", "Images", "ToolCalls", "ToolName", "ToolCallID"),
)
IMAGES = GoType("[]api.ImageData")
IMAGE = GoType("api.ImageData")
TOOL_CALLS = GoType("[]template.templateToolCall")
TOOL_CALL = GoType("template.templateToolCall", fields=_fields("ID", "Function"))
CALLED = GoType("template.templateToolCallFunction", fields=_fields("Index", "Name", "Arguments"))
ARGUMENTS = GoType("template.templateArgs", boxed=True, methods=_BRACES_STRING)
TOOLS = GoType("template.templateTools", methods=_JSON_STRING)
TOOL = GoType(
    "template.templateTool",
    fields=_fields("Type type", "Items items?", "Function function"),
    methods=_JSON_STRING,
)
FUNCTION = GoType(
    "template.templateToolFunction",
    fields=_fields("Name name", "Description description", "Parameters parameters"),
)
PARAMETERS = GoType(
    "template.templateToolFunctionParameters",
    fields=_fields(
        "Type type", "Defs $defs?", "Items items?", "Required required?", "Properties properties"
    ),
)
PROPERTY = GoType(
    "api.ToolProperty",
    fields=_fields(
        "AnyOf anyOf?",
        "Type type?",
        "Items items?",
        "Description description?",
        "Enum enum?",
        "Properties properties?",
        "Required required?",
    ),
    methods={"ToTypeScriptType": _type_script},
)
PROPERTIES = GoType(
    "template.templateProperties", methods=_BRACES_STRING, zero=lambda: to_property({})
)
PROPERTY_MAP = GoType("map[string]api.ToolProperty", zero=lambda: to_property({}))
PROPERTY_TYPE = GoType("api.PropertyType", methods={"String": _type_text}, marshal=_type_json)
ALTERNATIVES = GoType("[]api.ToolProperty")
NESTED = GoType("api.ToolPropertiesMap", marshal=_properties_json)
NESTED_POINTER = GoType(
    "*api.ToolPropertiesMap",
    methods={
        "ToMap": lambda value: _nested_map(value),
        "Len": lambda value: len(_nested_map(value)),
    },
)


def _nested_map(value: Value) -> Map:
    if isinstance(value, Struct):
        return cast("Map", value.values[_NESTED])
    return Map(PROPERTY_MAP, None)


def to_messages(messages: Sequence[_Json]) -> Slice:
    """Return messages as `.Messages`. Raises BadInput where a part has the wrong type."""
    converted: list[Value] = [Pointer(MESSAGE_POINTER, _message(message)) for message in messages]
    return Slice(MESSAGES, converted if messages else None)


def _message(message: _Json) -> Struct:
    images = _list(message, "images")
    calls = [_tool_call(_object(call, "tool_calls")) for call in _list(message, "tool_calls") or ()]
    return Struct(
        MESSAGE,
        {
            "Role": text(message, "role"),
            "Content": text(message, "content"),
            "Thinking": text(message, "thinking"),
            "Images": Slice(IMAGES, None if images is None else [_image(one) for one in images]),
            "ToolCalls": Slice(TOOL_CALLS, [*calls] or None),
            "ToolName": text(message, "tool_name"),
            "ToolCallID": text(message, "tool_call_id"),
        },
    )


def _image(image: object) -> Slice:
    if isinstance(image, bytes):
        return Slice(IMAGE, image)
    try:
        return Slice(IMAGE, base64.b64decode(_typed(image, str, "images"), validate=True))
    except ValueError as error:  # not ASCII, or not base64
        raise BadInput(f"images: illegal base64 data: {error}") from error


def _tool_call(call: _Json) -> Struct:
    function = _object(call.get("function"), "function")
    arguments = function.get("arguments")
    items = None if arguments is None else _items(_object(arguments, "arguments"))
    called: dict[str, Value] = {
        "Index": _typed(function.get("index", 0), int, "index"),
        "Name": text(function, "name"),
        "Arguments": Map(ARGUMENTS, items),
    }
    return Struct(TOOL_CALL, {"ID": text(call, "id"), "Function": Struct(CALLED, called)})


def to_tools(tools: Sequence[_Json] | None) -> Slice:
    """Return tools as `.Tools`. Raises BadInput where a part has the wrong type."""
    return Slice(
        TOOLS, None if tools is None else [_tool(_object(tool, "tools")) for tool in tools]
    )


def _tool(tool: _Json) -> Struct:
    function = _object(tool.get("function"), "function")
    parameters = _object(function.get("parameters"), "parameters")
    properties = parameters.get("properties")
    described: dict[str, Value] = {
        "Type": text(parameters, "type"),
        "Defs": Boxed(to_any(parameters.get("$defs"))),
        "Items": Boxed(to_any(parameters.get("items"))),
        "Required": _strings(parameters, "required"),
        "Properties": Map(PROPERTIES, None if properties is None else _properties(properties, 0)),
    }
    named: dict[str, Value] = {
        "Name": text(function, "name"),
        "Description": text(function, "description"),
        "Parameters": Struct(PARAMETERS, described),
    }
    items = Boxed(to_any(tool.get("items")))
    return Struct(
        TOOL, {"Type": text(tool, "type"), "Items": items, "Function": Struct(FUNCTION, named)}
    )


def _properties(properties: object, depth: int) -> dict[str, Value]:
    named = _object(properties, "properties")
    return {
        without_halves(name): to_property(_object(one, "properties"), depth + 1)
        for name, one in named.items()
    }


def to_property(schema: _Json, depth: int = 0) -> Struct:
    """Return one property of a tool's JSON schema. Raises BadInput for a wrong type or depth."""
    _check_depth(depth)
    choices = _list(schema, "anyOf")
    nested = schema.get("properties")
    known = None
    if nested is not None:
        known = Struct(NESTED, {_NESTED: Map(PROPERTY_MAP, _properties(nested, depth))})
    enum = _list(schema, "enum")
    alternatives = [to_property(_object(one, "anyOf"), depth + 1) for one in choices or ()]
    return Struct(
        PROPERTY,
        {
            "AnyOf": Slice(ALTERNATIVES, None if choices is None else [*alternatives]),
            "Type": _types(schema.get("type")),
            "Items": Boxed(to_any(schema.get("items"))),
            "Description": text(schema, "description"),
            "Enum": Slice(ANY_SLICE, None if enum is None else [to_any(one) for one in enum]),
            "Properties": Pointer(NESTED_POINTER, known),
            "Required": _strings(schema, "required"),
        },
    )


def _types(written: object) -> Slice:
    if written is None:
        return Slice(PROPERTY_TYPE, None)
    names = written if isinstance(written, list) else [written]
    return Slice(PROPERTY_TYPE, [without_halves(_typed(name, str, "type")) for name in names])


def to_any(value: object, depth: int = 0) -> Value:
    """Return JSON decoded as Go decodes it into an `interface {}`: numbers are floats."""
    _check_depth(depth)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return without_halves(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        return Map(ANY_MAP, _items(value, depth))
    if isinstance(value, list | tuple):
        return Slice(ANY_SLICE, [to_any(one, depth + 1) for one in value])
    raise BadInput(f"json: a {type(value).__name__} is no JSON value")


def _number(value: int | float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number in (float("inf"), float("-inf")) or number != number:
        raise BadInput("json: cannot unmarshal number into a value of type float64")
    return number


def _items(value: _Json, depth: int = 0) -> dict[str, Value]:
    return {without_halves(str(key)): to_any(one, depth + 1) for key, one in value.items()}


def _check_depth(depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise BadInput(f"json: nested more than {MAX_JSON_DEPTH} levels deep")


def _typed(value: object, kind: type[_T], name: str) -> _T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        got = {dict: "object", list: "array", str: "string", bool: "bool"}.get(
            type(value), "number"
        )
        raise BadInput(f"json: cannot unmarshal {got} into field {name} of type {kind.__name__}")
    return value


def text(value: _Json, name: str) -> str:
    """Return a string field, "" where it is missing or null. Raises BadInput for another type."""
    found = value.get(name)
    return "" if found is None else without_halves(_typed(found, str, name))


def _object(value: object, name: str) -> _Json:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    return _typed(value, dict, name)


def _list(value: _Json, name: str) -> Sequence[object] | None:
    found = value.get(name)
    if found is None or isinstance(found, list | tuple):
        return found
    return _typed(found, list, name)


def _strings(value: _Json, name: str) -> Slice:
    found = _list(value, name)
    return Slice(
        STRINGS,
        None if found is None else [without_halves(_typed(one, str, name)) for one in found],
    )
