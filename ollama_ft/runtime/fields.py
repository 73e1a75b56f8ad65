"""Typed looks into JSON that came from outside: absent is empty, another type is an error."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ollama_ft.core.errors import RuntimeRefused

Json: TypeAlias = Mapping[str, object]


def text(body: Json, key: str) -> str:
    """The text under `key`; "" if there is none. Raises RuntimeRefused if it is something else."""
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise unexpected(key, value)
    return value


def number(body: Json, key: str) -> int:
    """The whole number under `key`; 0 if there is none. Raises RuntimeRefused otherwise."""
    value = body.get(key)
    if value is None:
        return 0
    if not isinstance(value, int | float):
        raise unexpected(key, value)
    return int(value)


def texts(body: Json, key: str) -> tuple[str, ...]:
    """The texts listed under `key`; empty if there are none. Raises RuntimeRefused otherwise."""
    value = body.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise unexpected(key, value)
    return tuple(value)


def mapping(body: Json, key: str) -> Json:
    """The object under `key`; empty if there is none. Raises RuntimeRefused otherwise."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise unexpected(key, value)
    return value


def mappings(body: Json, key: str) -> Sequence[Json]:
    """The objects listed under `key`; empty if there are none. Raises RuntimeRefused otherwise."""
    value = body.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise unexpected(key, value)
    return value


def unexpected(key: str, value: object) -> RuntimeRefused:
    """The error for a field whose type is not the documented one."""
    return RuntimeRefused(
        f"The runtime's answer has a {key!r} that is a {type(value).__name__}.",
        mend="look with ollama-ft doctor whether the address belongs to an Ollama",
    )
