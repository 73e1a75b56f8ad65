"""Read a GGUF file through mmap; tensor bytes are handed out without copying.

    with open_gguf(path) as gguf:
        gguf.architecture                     # "llama"
        gguf.whole("llama.block_count")       # 30
        gguf.tensors["output_norm.weight"]    # TensorInfo(shape=(576,), type="F32", ...)
        gguf.raw("output_norm.weight")        # uint8 view of the file

The file is hostile until `header.py` has checked every count, length and offset against its size.
"""

import contextlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ollama_ft.core.errors import BadWeights, NotFound
from ollama_ft.weights.header import Header, TensorInfo, Value

__all__ = ["GGUF", "TensorInfo", "Value", "open_gguf"]


class GGUF:
    """An open GGUF file. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        path: Path,
        data: mmap.mmap,
        metadata: Mapping[str, Value],
        tensors: Mapping[str, TensorInfo],
        spans: Mapping[str, tuple[int, int]],
    ) -> None:
        self.path = path
        self.metadata = MappingProxyType(metadata)
        self._spans = spans
        self.tensors = MappingProxyType(tensors)
        self._data: mmap.mmap | None = data

    @property
    def architecture(self) -> str:
        """What `general.architecture` says, e.g. "llama"."""
        return self.text("general.architecture")

    def raw(self, name: str) -> npt.NDArray[np.uint8]:
        """The tensor's bytes as they lie in the file, read-only and not copied: (nbytes,)."""
        if self._data is None:
            raise ValueError(f"{self.path} is closed")
        if name not in self.tensors:
            raise BadWeights(f"{self.path.name} has no tensor {name!r}")
        info = self.tensors[name]
        return np.frombuffer(self._data, np.uint8, info.nbytes, info.offset)

    def stored(self, key: str) -> bytes:
        """A metadata value as it lies in the file: key, type and content, to be copied."""
        if self._data is None:
            raise ValueError(f"{self.path} is closed")
        start, end = self._spans[key]
        return self._data[start:end]

    def text(self, key: str, default: str | None = None) -> str:
        """A string value. Raises BadWeights if it is missing without a default, or no string."""
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; BadWeights as in `text`."""
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, "a whole number")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number; BadWeights as in `text`."""
        value = self.metadata.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(key, "a number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false; BadWeights as in `text`."""
        value = self.metadata.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings; BadWeights as in `text`."""
        value = self.metadata.get(key)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return [str(item) for item in value]
        raise self._wrong(key, "a list of texts")

    def reals(self, key: str) -> list[float]:
        """A list of numbers; BadWeights as in `text`."""
        value = self.metadata.get(key)
        if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
            return [float(item) for item in value]
        raise self._wrong(key, "a list of numbers")

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers; BadWeights as in `text`."""
        value = self.metadata.get(key)
        if isinstance(value, list) and all(isinstance(item, int) for item in value):
            return [int(item) for item in value]
        raise self._wrong(key, "a list of whole numbers")

    def _wrong(self, key: str, wanted: str) -> BadWeights:
        found = "is not" if key in self.metadata else "is missing, where there should be"
        return BadWeights(f"{self.path.name}: the metadata {key} {found} {wanted}")

    def close(self) -> None:
        """Let go of the file. Views that `raw` has given out stay valid."""
        data, self._data = self._data, None
        if data is not None:
            with contextlib.suppress(BufferError):  # the map goes when the last view does
                data.close()

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def open_gguf(path: Path) -> GGUF:
    """Open a GGUF file and check its header against its size.

    Raises NotFound if there is no such file, Unsupported for a version, byte order or tensor type
    that we do not read, and BadWeights for anything damaged.
    """
    data = _map(path)
    try:
        header = Header(data, path.name)
        metadata, tensors = header.read()
    except BaseException:
        data.close()
        raise
    return GGUF(path, data, metadata, tensors, header.spans)


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise BadWeights(f"{path.name} is too short to be a GGUF file")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise BadWeights(f"{path} cannot be read: {error.strerror}") from error
