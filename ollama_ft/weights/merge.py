"""A base with its adapter built in, as one GGUF: for runtimes that take no adapter at all.

Each changed matrix is read, W + (alpha / rank)·B·A is computed in float32, and the result is packed
again, a few rows at a time. Everything else is copied byte for byte: the other tensors, and the
metadata but what is no longer true. Same base, same adapter, same types → the same bytes.

Packing again rounds again, and a small change can be lost in a coarse type. So what it cost is
measured tensor by tensor, and told.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.core.files import digest_file, write_atomic
from ollama_ft.weights.adapter import read_pairs
from ollama_ft.weights.dequant import dequantize
from ollama_ft.weights.header import GGML_TYPES
from ollama_ft.weights.quantize import NUMBERS, can_quantize, quantize
from ollama_ft.weights.reader import GGUF, TensorInfo, open_gguf

Floats = npt.NDArray[np.float32]

KEEP = "keep"  # the types of the base
FALLBACK = "Q8_0"  # what a matrix gets whose own type nothing here can pack
PIECE = 1 << 22  # values worked on at a time: 16 MB in float32
_IMATRIX = "quantize.imatrix."  # says how the base was packed; the merged matrices were not
# llama.cpp's enum llama_ftype (llama.h) for a file that is mostly of one tensor type.
_FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
    "Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TensorCost:
    """What one matrix lost. Errors are norms of a difference over the norm of the adapter's change:
    0 = the change arrived whole, 1 = as much noise as change."""

    name: str
    type: str  # it is packed as
    was: str  # the base's type
    error: float


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged GGUF and what it cost."""

    path: Path
    digest: str  # "sha256:…"
    size: int  # bytes
    base_size: int
    costs: tuple[TensorCost, ...]  # one for each changed matrix, in the file's order

    @property
    def mean_error(self) -> float:
        """Of all changed matrices."""
        return float(np.mean([cost.error for cost in self.costs]))

    @property
    def worst(self) -> TensorCost:
        """The matrix that lost most."""
        return max(self.costs, key=lambda cost: cost.error)

    @property
    def types(self) -> dict[str, int]:
        """How many changed matrices are packed as what."""
        return dict(Counter(cost.type for cost in self.costs))


def merge(base: Path, adapter: Path, out: Path, *, packed_as: str = KEEP) -> Merged:
    """Write `base` with the GGUF adapter built in to `out`.

    Changed matrices are packed as `packed_as`, a ggml type, or "keep": as they were. Where that
    cannot be done, as Q8_0, or float32 where a row has no whole number of blocks.

    Raises BadWeights for an adapter that is none or not of this base, Unsupported for a tensor that
    cannot be read or merged. Whatever is raised, `out` is as it was before.
    """
    with open_gguf(base) as model, open_gguf(adapter) as lora:
        alpha, pairs = read_pairs(lora)
        _check(model, lora, pairs)
        types = {name: _type(model.tensors[name], packed_as) for name in pairs}
        costs: list[TensorCost] = []

        def write(file: IO[bytes]) -> None:
            plan = _plan(model, types)
            file.write(_header(model, lora, plan))
            for info in plan:
                file.write(b"\0" * (-file.tell() % _alignment(model)))
                if info.name in pairs:
                    costs.append(_merged(model, info, *pairs[info.name], alpha, file))
                else:
                    file.write(model.raw(info.name).data)
            file.write(b"\0" * (-file.tell() % _alignment(model)))

        write_atomic(out, write)
    return Merged(
        path=out,
        digest=digest_file(out),
        size=out.stat().st_size,
        base_size=base.stat().st_size,
        costs=tuple(costs),
    )


def _check(model: GGUF, lora: GGUF, pairs: Mapping[str, tuple[Floats, Floats]]) -> None:
    if lora.architecture != model.architecture:
        raise BadWeights(
            f"the adapter is for {lora.architecture}, the base is {model.architecture}"
        )
    for name, (a, b) in pairs.items():
        if name not in model.tensors:
            raise BadWeights(f"the adapter changes {name}, which the base does not have")
        shape = model.tensors[name].shape
        if name == "token_embd.weight" or len(shape) != 2:
            raise Unsupported(f"{name} is no plain matrix: it cannot be merged")
        if (b.shape[0], a.shape[1]) != shape or b.shape[1] != a.shape[0]:
            raise BadWeights(f"{name} is {shape} in the base, {b.shape} and {a.shape} as adapter")


def _type(info: TensorInfo, packed_as: str) -> str:
    wanted = info.type if packed_as == KEEP else packed_as
    # A type that is finer than the one asked for stays: nothing is gained by coarsening it.
    if packed_as != KEEP and _bits(info.type) > _bits(packed_as):
        wanted = info.type
    return next(t for t in (wanted, FALLBACK, "F32") if can_quantize(t, info.shape[-1]))


def _bits(type_name: str) -> float:
    _, elements, nbytes = GGML_TYPES[NUMBERS[type_name]]
    return 8 * nbytes / elements


def _plan(model: GGUF, types: Mapping[str, str]) -> list[TensorInfo]:
    """Every tensor as it will lie in the new file, offsets counted from the first one."""
    planned, at = [], 0
    for info in model.tensors.values():
        kind = types.get(info.name, info.type)
        nbytes = _nbytes(info.shape, kind)
        planned.append(
            TensorInfo(name=info.name, shape=info.shape, type=kind, offset=at, nbytes=nbytes)
        )
        at += nbytes + -nbytes % _alignment(model)
    return planned


def _nbytes(shape: tuple[int, ...], type_name: str) -> int:
    _, block, block_bytes = GGML_TYPES[NUMBERS[type_name]]
    return prod(shape) // block * block_bytes


def _header(model: GGUF, lora: GGUF, plan: list[TensorInfo]) -> bytes:
    """GGUF version 3, as ggml's docs/gguf.md lays it out."""
    keys = list(_metadata(model, lora, plan))
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(plan), len(keys)), *keys]
    for info in plan:
        shape = info.shape[::-1]
        parts.append(_string(info.name))
        parts.append(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        parts.append(struct.pack("<IQ", NUMBERS[info.type], info.offset))
    return b"".join(parts)


def _metadata(model: GGUF, lora: GGUF, plan: list[TensorInfo]) -> Iterator[bytes]:
    changed = any(info.type != model.tensors[info.name].type for info in plan)
    for key in model.metadata:
        if key.startswith(_IMATRIX):
            continue
        if key == "general.file_type" and changed:
            yield _string(key) + struct.pack("<II", 4, _file_type(plan))  # 4: uint32
        else:
            yield model.stored(key)
    for key in lora.metadata:  # where the adapter came from: ollama_ft.run, ollama_ft.base, …
        if key.startswith("ollama_ft.") and key not in model.metadata:
            yield lora.stored(key)


def _file_type(plan: list[TensorInfo]) -> int:
    """The number that stands for the type that most of the bytes have."""
    sizes: Counter[str] = Counter()
    for info in plan:
        if len(info.shape) > 1:
            sizes[info.type] += info.nbytes
    return _FILE_TYPES.get(sizes.most_common(1)[0][0], 0)


def _merged(
    model: GGUF, info: TensorInfo, a: Floats, b: Floats, alpha: float, file: IO[bytes]
) -> TensorCost:
    """Write one matrix with the adapter's change in it; return what was lost by packing."""
    was = model.tensors[info.name].type
    data = model.raw(info.name).reshape(info.shape[0], -1)
    scale = np.float32(alpha / len(a))
    lost = change = 0.0
    step = max(PIECE // info.shape[1], 1)
    for start in range(0, info.shape[0], step):
        some = slice(start, start + step)
        old = dequantize(data[some].reshape(-1), was).reshape(-1, info.shape[1])
        delta = scale * (b[some] @ a)
        wanted = old + delta
        packed = quantize(wanted, info.type)
        file.write(packed.data)
        found = dequantize(packed, info.type).reshape(wanted.shape)
        lost += float(np.square(found - wanted, dtype=np.float64).sum())
        change += float(np.square(delta, dtype=np.float64).sum())
    if not np.isfinite(lost):
        raise BadWeights(f"{info.name} is not finite after merging: the adapter is broken")
    return TensorCost(
        name=info.name, type=info.type, was=was, error=(lost / change) ** 0.5 if change else 0.0
    )


def _alignment(model: GGUF) -> int:
    return model.whole("general.alignment", 32)


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content
