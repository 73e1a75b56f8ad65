"""Which GGUF tensor holds which module's weights, for every architecture that we train.

The names on both sides, and which rows llama.cpp's converter permutes, are facts of llama.cpp's
conversion scripts and of transformers' model classes; `tests/test_architectures.py` proves them by
comparing logits. Nothing here imports torch: the adapter converter uses it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights.reader import GGUF


@dataclass(frozen=True, kw_only=True)
class Names:
    """One architecture's names: those inside a layer, without "model.layers.N." and "blk.N."."""

    linear: Mapping[str, str]  # module -> tensor
    norms: Mapping[str, str]
    permuted: frozenset[str] = field(
        default=frozenset()
    )  # modules whose rows are permuted per head
    shifted_norms: bool = False  # the GGUF holds weight + 1 (Gemma computes with 1 + weight)


@dataclass(frozen=True, kw_only=True)
class LinearLayer:
    """A linear layer by both names.

    `heads` is the number of attention heads whose rows llama.cpp has permuted, or 0.
    """

    module: str  # "model.layers.3.self_attn.q_proj"
    tensor: str  # "blk.3.attn_q.weight"
    shape: tuple[int, int]  # (out, in)
    heads: int


_LINEAR = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_PHI3_LINEAR = {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_GEMMA_NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}

_ARCHITECTURES: Mapping[str, Names] = {
    "llama": Names(
        linear=_LINEAR,
        norms=_NORMS,
        permuted=frozenset({"self_attn.q_proj", "self_attn.k_proj"}),
    ),
    "qwen2": Names(linear=_LINEAR, norms=_NORMS),
    "qwen3": Names(linear=_LINEAR, norms=_NORMS | _HEAD_NORMS),
    "gemma2": Names(linear=_LINEAR, norms=_GEMMA_NORMS, shifted_norms=True),
    "gemma3": Names(linear=_LINEAR, norms=_GEMMA_NORMS | _HEAD_NORMS, shifted_norms=True),
    "phi3": Names(linear=_PHI3_LINEAR, norms=_NORMS),
}

SUPPORTED: tuple[str, ...] = tuple(_ARCHITECTURES)
"""What `general.architecture` may say. Mistral's models are served as "llama"."""

OUTSIDE_LAYERS: Mapping[str, str] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def names_of(gguf: GGUF) -> Names:
    """The names for this file's architecture; Unsupported, naming it, if there are none."""
    name = gguf.architecture
    if name not in _ARCHITECTURES:
        raise Unsupported(
            f"models of the architecture {name!r} cannot be trained; these can: "
            f"{', '.join(SUPPORTED)}"
        )
    if gguf.whole(f"{name}.expert_count", 0):
        raise Unsupported(f"mixtures of experts of the architecture {name!r} cannot be trained")
    return _ARCHITECTURES[name]


def lora_targets(gguf: GGUF) -> tuple[str, ...]:
    """PEFT's `target_modules` for LoRA on all linear layers, e.g. ("q_proj", ...)."""
    return tuple(module.rpartition(".")[2] for module in names_of(gguf).linear)


def layer_count(gguf: GGUF) -> int:
    """The number of layers; BadWeights if the file cannot hold so many."""
    count = gguf.whole(f"{gguf.architecture}.block_count")
    if not 1 <= count <= len(gguf.tensors):
        raise BadWeights(f"{gguf.path.name} claims {count} layers in {len(gguf.tensors)} tensors")
    return count


def head_counts(gguf: GGUF) -> tuple[int, int]:
    """The numbers of query heads and of key/value heads, checked for sense."""
    name = gguf.architecture
    heads = gguf.whole(f"{name}.attention.head_count")
    groups = gguf.whole(f"{name}.attention.head_count_kv", heads)
    if not 1 <= groups <= heads or heads % groups:
        raise BadWeights(f"{gguf.path.name} claims {heads} heads in {groups} groups")
    return heads, groups


def hf_module_to_gguf(gguf: GGUF) -> dict[str, LinearLayer]:
    """Every linear layer of the decoder, by its module name in transformers.

    Raises Unsupported for an unknown architecture, and BadWeights if a tensor is missing.
    """
    names = names_of(gguf)
    heads, groups = head_counts(gguf)
    layers: dict[str, LinearLayer] = {}
    for index in range(layer_count(gguf)):
        for inner, leaf in names.linear.items():
            module, tensor = f"model.layers.{index}.{inner}", f"blk.{index}.{leaf}.weight"
            permuted = heads if inner.endswith("q_proj") else groups
            layers[module] = LinearLayer(
                module=module,
                tensor=tensor,
                shape=matrix_shape(gguf, tensor),
                heads=permuted if inner in names.permuted else 0,
            )
    return layers


def matrix_shape(gguf: GGUF, tensor: str) -> tuple[int, int]:
    """A matrix's (rows, columns); BadWeights if it is missing or no matrix."""
    info = gguf.tensors.get(tensor)
    if info is None:
        raise BadWeights(f"{gguf.path.name} has no tensor {tensor!r}, which its kind needs")
    if len(info.shape) != 2:
        raise BadWeights(f"{gguf.path.name}: {tensor!r} should be a matrix; it is {info.shape}")
    return info.shape[0], info.shape[1]


def rows_from_gguf(rows: int, heads: int) -> npt.NDArray[np.intp]:
    """Where transformers' rows lie in the GGUF: weight_transformers = weight_gguf[rows_from_gguf].

    llama.cpp rotates neighbouring pairs of a head's rows, transformers the two halves of a head, so
    llama.cpp's converter interleaves the halves (its `permute`); this is the way back.
    """
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def rows_to_gguf(rows: int, heads: int) -> npt.NDArray[np.intp]:
    """The inverse of `rows_from_gguf`: weight_gguf = weight_transformers[rows_to_gguf]."""
    return np.arange(rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)
