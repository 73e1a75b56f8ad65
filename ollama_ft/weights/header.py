"""Parse a GGUF's header: metadata and where each tensor lies, checked against the file's size.

Nothing is allocated on the word of a count: a list only grows with bytes that are there, and the
limits keep even a huge file of nonsense from taking more than a second. The format is ggml's
specification (docs/gguf.md there), versions 2 and 3, little-endian.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ollama_ft.core.errors import BadWeights, Unsupported

Value = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]

# Limits far above any real model (a 262k vocabulary's header takes 21 MB and 1.3 million items), so
# that a header that lies is refused within a second.
MAX_HEADER_BYTES = 96 << 20
MAX_HEADER_ITEMS = 3 << 20
MAX_NAME_BYTES = 63  # ggml keeps tensor names in 64 bytes, the last one zero
MAX_KEY_BYTES = 65535  # from the specification
MAX_DIMENSIONS = 4

# ggml_type number -> (name, elements in a block, bytes of a block); others are retired or unknown.
GGML_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}

# Metadata value types with a fixed size: number -> (struct code, bytes). 8 is string, 9 is array.
_SCALARS: Mapping[int, tuple[str, int]] = {
    0: ("B", 1),
    1: ("b", 1),
    2: ("H", 2),
    3: ("h", 2),
    4: ("I", 4),
    5: ("i", 4),
    6: ("f", 4),
    7: ("B", 1),
    10: ("Q", 8),
    11: ("q", 8),
    12: ("d", 8),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """Where a tensor lies in the file.

    `shape` is in numpy's order, e.g. (out, in) for a linear layer; `type` is ggml's name ("Q4_1");
    `offset` counts bytes from the start of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


class Header:
    """A cursor over the header; every step forward is checked first."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self.data = data
        self.name = name
        self.at = 0
        self.end = min(len(data), MAX_HEADER_BYTES)
        self.items = 0
        self.spans: dict[str, tuple[int, int]] = {}  # where each metadata value lies, its key first

    def read(self) -> tuple[dict[str, Value], dict[str, TensorInfo]]:
        """Metadata and tensors, in the file's order."""
        self._check_magic_and_version()
        tensor_count, value_count = self._u64(), self._u64()
        # The least that can be: a tensor takes 32 bytes (8 name, 4 + 8 dimensions, 4 type,
        # 8 offset), a value 13 (8 key, 4 type, 1 value).
        self._count(tensor_count, 32, "tensors")
        self._count(value_count, 13, "metadata values")
        metadata = self._metadata(value_count)
        alignment = _alignment(metadata, self.name)
        unplaced = [self._tensor() for _ in range(tensor_count)]
        start = -(-self.at // alignment) * alignment
        return metadata, self._placed(unplaced, start, alignment)

    def _check_magic_and_version(self) -> None:
        if self._take(4) != b"GGUF":
            raise BadWeights(f"{self.name} is not a GGUF file: its first four bytes say otherwise")
        version = self._u32()
        if version and version & 0xFFFF == 0:
            raise Unsupported(
                f"{self.name} is a big-endian GGUF; only little-endian files are read"
            )
        if version not in (2, 3):
            raise Unsupported(f"{self.name} is GGUF version {version}; versions 2 and 3 are read")

    def _metadata(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(count):
            start = self.at
            key = self._name(MAX_KEY_BYTES, "a metadata key")
            if key in metadata:
                raise BadWeights(f"{self.name} gives the metadata {key!r} twice")
            metadata[key] = self._value(key, self._u32())
            self.spans[key] = (start, self.at)
        return metadata

    def _value(self, key: str, kind: int) -> Value:
        if kind == _STRING:
            return self._strings(1, key)[0]
        if kind != _ARRAY:
            return self._numbers(kind, 1, key)[0]
        kind, count = self._u32(), self._u64()
        if kind == _STRING:
            return self._strings(count, key)
        return self._numbers(kind, count, key)

    def _numbers(self, kind: int, count: int, key: str) -> list[bool] | list[int] | list[float]:
        if kind not in _SCALARS:
            raise BadWeights(f"{self.name}: the metadata {key!r} has the unknown type {kind}")
        code, size = _SCALARS[kind]
        self._count(count, size, f"items in {key!r}")
        values: list[int] = np.frombuffer(self._take(count * size), f"<{code}").tolist()
        if kind != _BOOL:
            return values
        if values and max(values) > 1:
            raise BadWeights(f"{self.name}: the metadata {key!r} is neither true nor false")
        return [value == 1 for value in values]

    def _strings(self, count: int, key: str) -> list[str]:
        # The inner loop of opening a model: local names, and no call but the two that do the work.
        self._count(count, 8, f"texts in {key!r}")
        data, at, end, read = self.data, self.at, self.end, _U64.unpack_from
        strings: list[str] = []
        for _ in range(count):
            start = at + 8
            if start > end:
                raise self._short()
            at = start + read(data, at)[0]
            if at > end:
                raise self._short()
            strings.append(str(data[start:at], "utf-8", "replace"))
        self.at = at
        return strings

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._name(MAX_NAME_BYTES, "a tensor name")
        dimensions = self._u32()
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise BadWeights(f"{self.name}: {name!r} has {dimensions} dimensions; 1 to 4 can be")
        shape = tuple(self._u64() for _ in range(dimensions))[::-1]
        return name, shape, self._u32(), self._u64()

    def _placed(
        self, unplaced: list[tuple[str, tuple[int, ...], int, int]], start: int, alignment: int
    ) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = {}
        for name, shape, kind, offset in unplaced:
            if name in tensors:
                raise BadWeights(f"{self.name} has the tensor {name!r} twice")
            if offset % alignment:
                raise BadWeights(f"{self.name}: {name!r} does not lie on {alignment} bytes")
            type_name, nbytes = _size(name, shape, kind, self.name)
            info = TensorInfo(
                name=name, shape=shape, type=type_name, offset=start + offset, nbytes=nbytes
            )
            if info.offset + nbytes > len(self.data):
                raise BadWeights(
                    f"{self.name} is cut short or damaged: {name!r} ends at byte "
                    f"{info.offset + nbytes:,}, the file at {len(self.data):,}",
                    mend="fetch the file again",
                )
            tensors[name] = info
        _refuse_overlap(tensors, self.name)
        return tensors

    def _name(self, most: int, what: str) -> str:
        size = self._u64()
        if not 1 <= size <= most:
            raise BadWeights(f"{self.name}: {what} has {size} bytes; 1 to {most} can be")
        try:
            return str(self._take(size), "utf-8")
        except UnicodeDecodeError as error:
            raise BadWeights(f"{self.name}: {what} is not UTF-8") from error

    def _count(self, count: int, size: int, what: str) -> None:
        self.items += count
        if count * size > self.end - self.at or self.items > MAX_HEADER_ITEMS:
            raise BadWeights(f"{self.name} is cut short or damaged: it announces {count:,} {what}")

    def _u32(self) -> int:
        value: int = _U32.unpack(self._take(4))[0]
        return value

    def _u64(self) -> int:
        value: int = _U64.unpack(self._take(8))[0]
        return value

    def _take(self, size: int) -> bytes:
        start = self.at
        if size > self.end - start:
            raise self._short()
        self.at = start + size
        return self.data[start : self.at]

    def _short(self) -> BadWeights:
        return BadWeights(
            f"{self.name} is cut short or damaged: its header runs past byte {self.end:,}",
            mend="fetch the file again",
        )


def _alignment(metadata: Mapping[str, Value], name: str) -> int:
    alignment = metadata.get("general.alignment", 32)
    if isinstance(alignment, bool) or not isinstance(alignment, int):
        raise BadWeights(f"{name}: general.alignment is not a whole number")
    if not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise BadWeights(f"{name}: general.alignment is {alignment}, not a small power of two")
    return alignment


def _size(name: str, shape: tuple[int, ...], kind: int, file: str) -> tuple[str, int]:
    """The type's name and the tensor's bytes; Python's integers cannot overflow."""
    if kind not in GGML_TYPES:
        raise Unsupported(f"{file}: {name!r} has the tensor type {kind}, which is not known here")
    type_name, block, block_bytes = GGML_TYPES[kind]
    elements = 1
    for size in shape:
        elements *= size
    if elements == 0 or shape[-1] % block:
        raise BadWeights(f"{file}: {name!r} of type {type_name} cannot have the shape {shape}")
    return type_name, elements // block * block_bytes


def _refuse_overlap(tensors: Mapping[str, TensorInfo], file: str) -> None:
    end = 0
    for info in sorted(tensors.values(), key=lambda info: info.offset):
        if info.offset < end:
            raise BadWeights(f"{file}: {info.name!r} lies on top of another tensor")
        end = info.offset + info.nbytes
