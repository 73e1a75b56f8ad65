"""Turn ggml's packed blocks into float32, bit-equal to the reference in the `gguf` package.

Every quantised type is integer codes times a scale for each small group, some plus an offset for
each group. So each type below is one layout (a numpy record that mirrors ggml's C struct) and one
function that names its codes, scales and offsets; one loop does the arithmetic, in pieces that
stay in the processor's cache. The layouts are those of ggml's `ggml-common.h`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights.header import GGML_TYPES
from ollama_ft.weights.reader import GGUF

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Records = npt.NDArray[np.void]
# Codes are (blocks, elements); scales, and offsets where there are any, (blocks, groups).
Parts = tuple[npt.NDArray[np.uint8 | np.int8 | np.float32], Floats, Floats | None]

PIECE = 1 << 17  # elements worked on at a time: 0.5 MB of results, within a core's second cache


def tensor(gguf: GGUF, name: str) -> Floats:
    """A tensor's values in its own shape, as a fresh array.

    Raises BadWeights if the file has no such tensor, Unsupported for a type that is not known.
    """
    data = gguf.raw(name)
    info = gguf.tensors[name]
    return dequantize(data, info.type).reshape(info.shape)


def dequantize(data: Bytes, type_name: str) -> Floats:
    """The values of whole blocks of one ggml type: (bytes,) in, (elements,) out.

    Raises Unsupported naming the type if it is none of `TYPES`.
    """
    if type_name in _PLAIN:
        return _PLAIN[type_name](data)
    if type_name not in _PACKED:
        raise Unsupported(
            f"tensors of type {type_name} cannot be trained on; these can: {', '.join(TYPES)}",
            mend="choose a model quantised as Q4_K_M, Q8_0 or F16",
        )
    layout, parts = _PACKED[type_name]
    if data.size % layout.itemsize:
        raise BadWeights(f"{data.size} bytes are no whole number of {type_name} blocks")
    records = data.view(layout)
    block = _BLOCK[type_name]
    result = np.empty((len(records), block), np.float32)
    step = PIECE // block
    for start in range(0, len(records), step):
        _spread(result[start : start + step], *parts(records[start : start + step]))
    return result.reshape(-1)


def _spread(
    result: Floats,
    codes: npt.NDArray[np.uint8 | np.int8 | np.float32],
    scales: Floats,
    offsets: Floats | None,
) -> None:
    np.copyto(result, codes)
    groups = result.reshape(*scales.shape, -1)  # (blocks, groups, elements of a group)
    groups *= scales[..., None]
    if offsets is not None:
        groups += offsets[..., None]


def _fields(packed: npt.NDArray[np.uint64], span: int, bits: int) -> Bytes:
    """Unpack small fields: each run of `span` bytes holds 8/bits planes, the low bits first.

    Works on eight bytes at a time; what a shift brings over from the next byte is masked away.
    (blocks, words) in, (blocks, elements) out.
    """
    mask = np.uint64(((1 << bits) - 1) * 0x0101010101010101)
    words = packed.reshape(len(packed), -1, 1, span // 8)
    planes = np.empty((*words.shape[:2], 8 // bits, span // 8), np.uint64)
    for plane in range(8 // bits):
        np.right_shift(words[:, :, 0], np.uint64(plane * bits), out=planes[:, :, plane])
    planes &= mask
    return planes.view(np.uint8).reshape(len(packed), -1)


def _less(codes: Bytes, amount: int) -> npt.NDArray[np.int8]:
    codes -= np.uint8(amount)  # wraps around, which is what the signed view undoes
    return codes.view(np.int8)


def _single(field: npt.NDArray[np.float16]) -> Floats:
    return field.astype(np.float32)[:, None]  # (blocks, 1)


def _q4_0(r: Records) -> Parts:
    return _less(_fields(r["q"], 16, 4), 8), _single(r["d"]), None


def _q4_1(r: Records) -> Parts:
    return _fields(r["q"], 16, 4), _single(r["d"]), _single(r["m"])


def _five_bits(r: Records) -> Bytes:
    high = np.unpackbits(r["h"], axis=-1, bitorder="little")
    codes = _fields(r["q"], 16, 4)
    codes |= high << np.uint8(4)
    return codes


def _q5_0(r: Records) -> Parts:
    return _less(_five_bits(r), 16), _single(r["d"]), None


def _q5_1(r: Records) -> Parts:
    return _five_bits(r), _single(r["d"]), _single(r["m"])


def _q8_0(r: Records) -> Parts:
    return r["q"], _single(r["d"]), None


def _q2_k(r: Records) -> Parts:
    scales = _single(r["d"]) * (r["s"] & 15).astype(np.float32)
    offsets = _single(r["m"]) * (r["s"] >> 4).astype(np.float32)
    return _fields(r["q"], 32, 2), scales, -offsets


def _q3_k(r: Records) -> Parts:
    low, high = r["s"][:, :8], r["s"][:, 8:]
    six = np.concatenate([low & 15, low >> 4], axis=-1)
    six |= np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1) << 4
    scales = _single(r["d"]) * _less(six, 32).astype(np.float32)
    codes = _fields(r["q"], 32, 2)
    codes |= _fields(r["h"], 32, 1) << np.uint8(2)
    return _less(codes, 4), scales, None


def _six_bit_pairs(r: Records) -> tuple[Floats, Floats]:
    """Scales and offsets of Q4_K and Q5_K: eight 6-bit pairs in 12 bytes."""
    first, second, tops = r["s"][:, :4], r["s"][:, 4:8], r["s"][:, 8:]
    scales = np.concatenate([first & 63, (tops & 15) | (first >> 2 & 48)], axis=-1)
    offsets = np.concatenate([second & 63, (tops >> 4) | (second >> 2 & 48)], axis=-1)
    return (
        _single(r["d"]) * scales.astype(np.float32),
        -(_single(r["m"]) * offsets.astype(np.float32)),
    )


def _q4_k(r: Records) -> Parts:
    return _fields(r["q"], 32, 4), *_six_bit_pairs(r)


def _q5_k(r: Records) -> Parts:
    codes = _fields(r["q"], 32, 4)
    codes |= _fields(r["h"], 32, 1) << np.uint8(4)
    return codes, *_six_bit_pairs(r)


def _q6_k(r: Records) -> Parts:
    codes = _fields(r["q"], 64, 4)
    codes |= _fields(r["h"], 32, 2) << np.uint8(4)
    return _less(codes, 32), _single(r["d"]) * r["s"].astype(np.float32), None


# The sixteen levels of the "non-linear" types (ggml's kvalues_iq4nl).
_LEVELS = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)


def _iq4_nl(r: Records) -> Parts:
    return _LEVELS[_fields(r["q"], 16, 4)], _single(r["d"]), None


def _iq4_xs(r: Records) -> Parts:
    low = np.stack([r["l"] & 15, r["l"] >> 4], axis=-1).reshape(len(r), 8)
    high = r["h"][:, None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    six = low | high.astype(np.uint8) << 4
    scales = _single(r["d"]) * _less(six, 32).astype(np.float32)
    return _LEVELS[_fields(r["q"], 16, 4)], scales, None


def _bf16(data: Bytes) -> Floats:
    # bfloat16 is the upper half of a float32.
    return (data.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


_PLAIN: Mapping[str, Callable[[Bytes], Floats]] = {
    "F32": lambda data: data.view("<f4").astype(np.float32),
    "F16": lambda data: data.view("<f2").astype(np.float32),
    "BF16": _bf16,
}


def _layout(*fields: tuple[str, str, int]) -> np.dtype[np.void]:
    return np.dtype(
        [(name, code, (count,)) if count else (name, code) for name, code, count in fields]
    )


_D, _M = ("d", "<f2", 0), ("m", "<f2", 0)
_PACKED: Mapping[str, tuple[np.dtype[np.void], Callable[[Records], Parts]]] = {
    "Q4_0": (_layout(_D, ("q", "<u8", 2)), _q4_0),
    "Q4_1": (_layout(_D, _M, ("q", "<u8", 2)), _q4_1),
    "Q5_0": (_layout(_D, ("h", "u1", 4), ("q", "<u8", 2)), _q5_0),
    "Q5_1": (_layout(_D, _M, ("h", "u1", 4), ("q", "<u8", 2)), _q5_1),
    "Q8_0": (_layout(_D, ("q", "i1", 32)), _q8_0),
    "Q2_K": (_layout(("s", "u1", 16), ("q", "<u8", 8), _D, _M), _q2_k),
    "Q3_K": (_layout(("h", "<u8", 4), ("q", "<u8", 8), ("s", "u1", 12), _D), _q3_k),
    "Q4_K": (_layout(_D, _M, ("s", "u1", 12), ("q", "<u8", 16)), _q4_k),
    "Q5_K": (_layout(_D, _M, ("s", "u1", 12), ("h", "<u8", 4), ("q", "<u8", 16)), _q5_k),
    "Q6_K": (_layout(("q", "<u8", 16), ("h", "<u8", 8), ("s", "i1", 16), _D), _q6_k),
    "IQ4_NL": (_layout(_D, ("q", "<u8", 2)), _iq4_nl),
    "IQ4_XS": (_layout(_D, ("h", "<u2", 0), ("l", "u1", 4), ("q", "<u8", 16)), _iq4_xs),
}
_BLOCK: Mapping[str, int] = {name: block for name, block, _ in GGML_TYPES.values()}

TYPES: tuple[str, ...] = (*_PLAIN, *_PACKED)
"""The ggml types that `dequantize` knows."""
