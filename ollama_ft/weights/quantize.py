"""Pack float32 into ggml's blocks: the way back from `dequant.py`.

llama.cpp's own quantiser does it where xllamacpp is installed, for every type; else the `gguf`
package, for the simple ones. Where both can, they make the same bytes, which a test keeps true.
"""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

from ollama_ft.core.errors import Unsupported
from ollama_ft.weights.dequant import TYPES
from ollama_ft.weights.header import GGML_TYPES

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

NUMBERS: Mapping[str, int] = {name: number for number, (name, _, _) in GGML_TYPES.items()}
_SIMPLE = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")  # of the gguf package
_PLAIN = ("F32", "F16", "BF16")  # rounded, not packed: no quantiser is asked


def can_quantize(type_name: str, columns: int) -> bool:
    """Whether rows of so many values can be packed into this type, and read again."""
    if type_name not in TYPES or columns % GGML_TYPES[NUMBERS[type_name]][1]:
        return False
    return type_name in _SIMPLE or _llama_cpp() is not None


def quantize(rows: Floats, type_name: str) -> Bytes:
    """Pack (rows, columns) into blocks of one ggml type: (bytes,), row after row.

    Raises Unsupported if `can_quantize` says no.
    """
    if not can_quantize(type_name, rows.shape[-1]):
        raise Unsupported(
            f"Nothing that is installed packs {rows.shape[-1]} columns as {type_name}.",
            mend="pip install 'ollama-ft[embedded]'",
        )
    packer = None if type_name in _PLAIN else _llama_cpp()
    return packer(rows, type_name) if packer else _by_package(rows, type_name)


def _by_package(rows: Floats, type_name: str) -> Bytes:
    import gguf

    packed = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[type_name])
    return np.ascontiguousarray(packed).view(np.uint8).reshape(-1)


@cache
def _llama_cpp() -> Callable[[Floats, str], Bytes] | None:
    """ggml_quantize_chunk (ggml.h), which xllamacpp's library exports; None without it."""
    try:
        from xllamacpp import xllamacpp

        pack = ctypes.CDLL(xllamacpp.__file__).ggml_quantize_chunk
    except (ImportError, OSError, AttributeError):
        return None
    # type, source, target, first element, rows, columns, importance matrix → bytes written
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    pack.argtypes = (ctypes.c_int, pointer, pointer, count, count, count, pointer)
    pack.restype = ctypes.c_size_t

    def packer(rows: Floats, type_name: str) -> Bytes:
        number = NUMBERS[type_name]
        _, block, block_bytes = GGML_TYPES[number]
        source = np.ascontiguousarray(rows, np.float32)
        target = np.empty(source.size // block * block_bytes, np.uint8)
        shape = (source.shape[0], source.shape[1])
        written = pack(number, source.ctypes.data, target.ctypes.data, 0, *shape, None)
        assert written == target.size, "ggml's block sizes are those of header.py"
        return target

    return packer
