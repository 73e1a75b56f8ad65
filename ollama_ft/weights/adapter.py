"""A PEFT adapter as the GGUF that llama.cpp and Ollama apply at run time, and back.

llama.cpp computes W·x + (alpha / rank)·B·(A·x), finding W by name. So each module's exact scale is
folded into its B, rows of B are permuted where the base's rows are (`architectures/names.py`),
every name and shape is checked against the base, and what was written is read again and compared.

The same adapter gives the same bytes: names are sorted, nothing depends on the time. Up to 64 MB
the matrices are float32, so that nothing is lost; beyond, each is float16 if that changes it by at
most a thousandth, and float32 if not.
"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.core.files import digest_file, write_bytes
from ollama_ft.weights import dequant
from ollama_ft.weights.architectures import (
    LinearLayer,
    hf_module_to_gguf,
    rows_from_gguf,
    rows_to_gguf,
)
from ollama_ft.weights.architectures.names import matrix_shape
from ollama_ft.weights.peft_folder import CONFIG, TENSORS, Pair, read_peft
from ollama_ft.weights.reader import GGUF, open_gguf

FLOAT32_UP_TO = 64 << 20  # bytes of all matrices together
FLOAT16_LOSS = 1e-3  # most that rounding may change a matrix, relative to its norm
# Ten times what float16 can cause; a wrong scale or row is far above it.
MOST_ERROR = 1e-2

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """A converted adapter."""

    path: Path
    digest: str  # "sha256:..."
    size: int  # bytes
    alpha: float
    ranks: tuple[int, ...]  # all that occur, ascending
    tensors: int
    max_error: float  # the worst module's largest difference on random inputs, relative


def convert_adapter(
    folder: Path, base: GGUF, out: Path, *, provenance: Mapping[str, str]
) -> AdapterFile:
    """Convert a PEFT folder to a GGUF adapter of `base` at `out`.

    `provenance` is written as `ollama_ft.<key>`. Raises what `read_peft` raises, and BadWeights if
    the adapter is not for this base or what was written does not compute what PEFT does. Whatever
    is raised, `out` is as it was before.
    """
    pairs = read_peft(folder)
    layers = _layers(pairs, base)
    ranks = sorted({len(pair.a) for pair in pairs})
    alpha = float(ranks[-1])  # explicit and never 0, which loaders read differently
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".adapter-") as temporary:
        draft = Path(temporary) / "draft.gguf"
        keys = {f"ollama_ft.{key}": provenance[key] for key in sorted(provenance)}
        _write(draft, base.architecture, alpha, keys, _matrices(pairs, layers, alpha))
        max_error = _compare(draft, pairs, layers)
        draft.replace(out)
    return AdapterFile(
        path=out,
        digest=digest_file(out),
        size=out.stat().st_size,
        alpha=alpha,
        ranks=tuple(ranks),
        tensors=2 * len(pairs),
        max_error=max_error,
    )


def adapter_to_peft(adapter: Path, base: GGUF, folder: Path) -> Path:
    """Write a GGUF adapter of `base` as the PEFT folder that PEFT can load; return the folder.

    The scale stays alpha / rank, so PEFT applies what llama.cpp applies. Raises BadWeights if the
    adapter is not one, or not for this base.
    """
    from safetensors.numpy import save

    with open_gguf(adapter) as gguf:
        alpha, halves = read_pairs(gguf)
        pairs = [
            _unpermuted(layer, *halves[layer.tensor], alpha)
            for layer in _known_layers(base).values()
            if layer.tensor in halves
        ]
    if len(pairs) != len(halves):
        raise BadWeights(f"{adapter.name} changes tensors that the base does not have")
    tensors = {}
    for pair in pairs:
        _shape_of_base(pair, _known_layers(base))
        tensors[f"base_model.model.{pair.module}.lora_A.weight"] = pair.a
        tensors[f"base_model.model.{pair.module}.lora_B.weight"] = pair.b
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / TENSORS, save(tensors))
    config = json.dumps(_peft_config(pairs, alpha), indent=2, sort_keys=True)
    write_bytes(folder / CONFIG, config.encode())
    return folder


def _layers(pairs: Sequence[Pair], base: GGUF) -> dict[str, LinearLayer]:
    """The base's layer of each pair, checked to fit."""
    known = _known_layers(base)
    return {pair.module: _shape_of_base(pair, known) for pair in pairs}


def _known_layers(base: GGUF) -> dict[str, LinearLayer]:
    layers = hf_module_to_gguf(base)
    if "output.weight" in base.tensors:  # a head of its own; a tied one cannot be changed alone
        shape = matrix_shape(base, "output.weight")
        layers["lm_head"] = LinearLayer(
            module="lm_head", tensor="output.weight", shape=shape, heads=0
        )
    return layers


def _shape_of_base(pair: Pair, known: Mapping[str, LinearLayer]) -> LinearLayer:
    if pair.module == "lm_head" and pair.module not in known:
        raise Unsupported(
            "the adapter cannot be converted: it changes the head, which is tied to the embeddings"
        )
    if pair.module not in known:
        raise BadWeights(f"the adapter changes {pair.module}, which the base does not have")
    layer = known[pair.module]
    found = (pair.b.shape[0], pair.a.shape[1])
    if found != layer.shape:
        raise BadWeights(
            f"the adapter is not for this base: its {pair.module} is {found}, the base's "
            f"{layer.shape}"
        )
    return layer


def _matrices(
    pairs: Sequence[Pair], layers: Mapping[str, LinearLayer], alpha: float
) -> dict[str, Matrix]:
    """What to write, by tensor name in sorted order."""
    small = sum(pair.a.nbytes + pair.b.nbytes for pair in pairs) <= FLOAT32_UP_TO
    matrices: dict[str, Matrix] = {}
    for pair in sorted(pairs, key=lambda pair: layers[pair.module].tensor):
        layer = layers[pair.module]
        # llama.cpp multiplies with alpha / rank; what is left of PEFT's scale goes into B.
        with np.errstate(over="ignore"):  # looked for below
            b = pair.b * np.float32(pair.scale * len(pair.a) / alpha)
        if layer.heads:
            b = b[rows_to_gguf(len(b), layer.heads)]
        if not np.isfinite(b).all():
            raise BadWeights(f"the adapter's {pair.module} overflows with its scale {pair.scale}")
        matrices[f"{layer.tensor}.lora_a"] = pair.a if small else _halved(pair.a)
        matrices[f"{layer.tensor}.lora_b"] = b if small else _halved(b)
    return matrices


def _halved(matrix: Floats) -> Matrix:
    with np.errstate(over="ignore"):
        half = matrix.astype(np.float16)
    lost = np.linalg.norm(half.astype(np.float32) - matrix)
    return half if lost <= FLOAT16_LOSS * np.linalg.norm(matrix) else matrix


def _write(
    path: Path, arch: str, alpha: float, keys: Mapping[str, str], matrices: Mapping[str, Matrix]
) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for key, value in keys.items():
        if not re.fullmatch(r"[a-z0-9_.]+", key):
            raise BadWeights(f"the provenance key {key!r} cannot be written")
        writer.add_string(key, value)
    for name, matrix in matrices.items():
        writer.add_tensor(name, np.ascontiguousarray(matrix))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.flush()
    for file in writer.fout or ():
        os.fsync(file.fileno())
    writer.close()


def _compare(path: Path, pairs: Sequence[Pair], layers: Mapping[str, LinearLayer]) -> float:
    """The worst module's relative error on random inputs, read as llama.cpp reads it."""
    random = np.random.default_rng(0)
    worst = 0.0
    with open_gguf(path) as gguf:
        alpha, halves = read_pairs(gguf)
        for pair in pairs:
            layer = layers[pair.module]
            written = _unpermuted(layer, *halves[layer.tensor], alpha)
            inputs = random.standard_normal((pair.a.shape[1], 4))  # four vectors at once
            wanted = pair.scale * (pair.b.astype(np.float64) @ (pair.a @ inputs))
            found = written.scale * (written.b.astype(np.float64) @ (written.a @ inputs))
            size = float(np.abs(wanted).max()) or 1.0
            worst = max(worst, float(np.abs(found - wanted).max()) / size)
    if not worst <= MOST_ERROR:
        raise BadWeights(f"the converted adapter differs from PEFT's by {worst:.2%}")
    return worst


def read_pairs(gguf: GGUF) -> tuple[float, dict[str, tuple[Floats, Floats]]]:
    """An adapter's alpha, and (A, B) by the base's tensor name.

    A is (rank, in), B is (out, rank). Raises BadWeights for what is no LoRA adapter.
    """
    kind = gguf.text("general.type", ""), gguf.text("adapter.type", "")
    if kind != ("adapter", "lora"):
        raise BadWeights(f"{gguf.path.name} is no LoRA adapter")
    halves = {}
    for name in gguf.tensors:
        tensor, _, suffix = name.rpartition(".")
        other = f"{tensor}.lora_{'b' if suffix == 'lora_a' else 'a'}"
        if suffix not in ("lora_a", "lora_b") or other not in gguf.tensors:
            raise BadWeights(f"{gguf.path.name}: {name!r} is not one of a pair of LoRA matrices")
        if suffix == "lora_a":
            halves[tensor] = (dequant.tensor(gguf, name), dequant.tensor(gguf, other))
    return gguf.real("adapter.lora.alpha"), halves


def _unpermuted(layer: LinearLayer, a: Floats, b: Floats, alpha: float) -> Pair:
    if a.ndim != 2 or b.ndim != 2 or b.shape != (layer.shape[0], a.shape[0]):
        raise BadWeights(f"the adapter's {layer.tensor} does not fit the base's {layer.shape}")
    if layer.heads:
        b = b[rows_from_gguf(len(b), layer.heads)]
    return Pair(module=layer.module, a=a, b=b, scale=alpha / len(a))


def _peft_config(pairs: Sequence[Pair], alpha: float) -> dict[str, object]:
    rank = Counter(len(pair.a) for pair in pairs).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {
            re.escape(pair.module): len(pair.a) for pair in pairs if len(pair.a) != rank
        },
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(_targets(pairs)),
        "inference_mode": True,
    }


def _targets(pairs: Sequence[Pair]) -> Iterator[str]:
    """Leaf names if every layer has them all, else the full names."""
    leaves = Counter(pair.module.rpartition(".")[2] for pair in pairs)
    even = len(set(leaves.values())) == 1 and "lm_head" not in leaves
    layers = {pair.module.split(".")[2] for pair in pairs if pair.module != "lm_head"}
    if even and set(leaves.values()) == {len(layers)}:
        yield from sorted(leaves)
    else:
        yield from sorted(pair.module for pair in pairs)
