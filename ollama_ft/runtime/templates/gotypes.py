"""Go values, as far as a template can tell them apart.

A Python str, bool, int, float or complex is the Go value of that kind (int64, float64, complex128).
None is what Go calls an invalid value: nothing at all. `Boxed` is an `interface {}` that holds
something; `Boxed(None)` is a nil one. Slices, maps, structs and pointers carry their Go type, for
messages and `%T`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Value = object


@dataclass(frozen=True, slots=True)
class FieldType:
    """One field of a struct: its Go name, and how JSON names it."""

    name: str
    json: str = ""
    omit_empty: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class GoType:
    """A type of Go that is not a plain one.

    `boxed`: elements are of type `interface {}`. `zero` makes the value of a missing map key.
    `methods` are those that a template may call; all take no argument. `marshal` gives
    the JSON text, where it is not what the parts of the value give.
    """

    name: str
    boxed: bool = False
    fields: tuple[FieldType, ...] = ()
    methods: Mapping[str, Callable[["Value"], "Value"]] = field(default_factory=dict)
    zero: Callable[[], "Value"] = lambda: None
    marshal: Callable[["Value"], str] | None = None

    def element(self, value: Value) -> Value:
        """Return an element of a value of this type as a template gets it."""
        return Boxed(value) if self.boxed else value


class Boxed:
    """An `interface {}`."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


class Byte(int):
    """A `uint8`, which indexing a string gives."""


class Slice:
    """A slice: `items` from `start` to `stop`; None for a nil slice, bytes for `[]byte`."""

    __slots__ = ("items", "start", "stop", "type")

    def __init__(
        self,
        type_: GoType,
        items: list[Value] | bytes | None,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.type = type_
        self.items = items
        self.start = start
        self.stop = len(items or ()) if stop is None else stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __bool__(self) -> bool:
        return self.stop > self.start

    def at(self, index: int) -> Value:
        """Return the element at `index`, raw: not boxed."""
        assert self.items is not None
        if isinstance(self.items, bytes):
            return Byte(self.items[self.start + index])
        return self.items[self.start + index]

    def all(self) -> list[Value]:
        """Return the elements, raw."""
        return [self.at(index) for index in range(len(self))]


class Map:
    """A map from strings; `items` is None for a nil map."""

    __slots__ = ("_sorted", "items", "type")

    def __init__(self, type_: GoType, items: dict[str, Value] | None) -> None:
        self.type = type_
        self.items = items
        self._sorted: list[tuple[str, Value]] | None = None

    def __len__(self) -> int:
        return len(self.items or ())

    def sorted(self) -> list[tuple[str, Value]]:
        """Return keys and raw elements in the order of keys, as Go ranges over them."""
        if self._sorted is None:
            self._sorted = sorted((self.items or {}).items(), key=lambda item: item[0])
        return self._sorted


class Struct:
    """A struct: one value for each field of its type, by name."""

    __slots__ = ("type", "values")

    def __init__(self, type_: GoType, values: dict[str, Value]) -> None:
        self.type = type_
        self.values = values


class Pointer:
    """A pointer to a struct; `target` is None for nil."""

    __slots__ = ("target", "type")

    def __init__(self, type_: GoType, target: Struct | None) -> None:
        self.type = type_
        self.target = target


_PLAIN = {
    str: "string",
    bool: "bool",
    int: "int",
    float: "float64",
    complex: "complex128",
    Byte: "uint8",
    Boxed: "interface {}",
}


def type_name(value: Value) -> str:
    """Return the name of the Go type of a value."""
    plain = _PLAIN.get(type(value))
    if plain is not None:
        return plain
    assert isinstance(value, Slice | Map | Struct | Pointer)
    return value.type.name


def unbox(value: Value) -> Value:
    """Return what an interface holds (None for nil), any other value as it is."""
    return value.value if isinstance(value, Boxed) else value


def indirect(value: Value) -> tuple[Value, bool]:
    """Follow interfaces and pointers; the flag says that a nil one was met, which is returned."""
    while isinstance(value, Boxed | Pointer):
        inner = value.value if isinstance(value, Boxed) else value.target
        if inner is None:
            return value, True
        value = inner
    return value, False


def is_true(value: Value) -> bool:
    """Whether `if` takes a value for true: neither nothing, nor zero, nor empty."""
    value = unbox(value)
    if isinstance(value, Slice | Map):
        return len(value) > 0
    if isinstance(value, Struct):
        return True
    if isinstance(value, Pointer):
        return value.target is not None
    return bool(value)


def method(value: Value, name: str) -> Callable[[Value], Value] | None:
    """Return the method of a value that a template may call by `name`."""
    if isinstance(value, Slice | Map | Struct | Pointer):
        return value.type.methods.get(name)
    return None
