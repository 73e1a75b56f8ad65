"""Rotary position embeddings: what the GGUF says, as transformers' `rope_parameters`.

The meanings and defaults of the keys are those of llama.cpp (`llama_model_base::load_hparams` and
the context's set-up); the YaRN formula is arXiv 2309.00071, LongRoPE is arXiv 2402.13753.
"""

import math

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights import dequant
from ollama_ft.weights.reader import GGUF

Rope = dict[str, str | float | int | list[float]]

FREQUENCY_FACTORS = "rope_freqs.weight"
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
DEFAULT_BASE = 10000.0


def rope_parameters(gguf: GGUF, head_size: int, base: float) -> Rope:
    """The scaling that llama.cpp applies, for the frequency base given.

    Raises Unsupported for a scaling that transformers cannot express.
    """
    name = gguf.architecture
    rotated = gguf.whole(f"{name}.rope.dimension_count", head_size)
    if not 2 <= rotated <= head_size or rotated % 2:
        raise BadWeights(f"{gguf.path.name} rotates {rotated} of {head_size} dimensions of a head")
    rope: Rope = {"rope_type": "default", "rope_theta": base}
    if rotated != head_size:
        if name != "phi3":
            raise Unsupported(f"{name} models with partly rotated heads cannot be trained")
        rope["partial_rotary_factor"] = rotated / head_size
    rope.update(_scaling(gguf))
    return rope


def _scaling(gguf: GGUF) -> Rope:
    name = gguf.architecture
    if LONG_FACTORS in gguf.tensors:
        return _longrope(gguf)
    kind = gguf.text(f"{name}.rope.scaling.type", "linear")
    factor = gguf.real(f"{name}.rope.scaling.factor", 0.0)
    factor = factor or gguf.real(f"{name}.rope.scale_linear", 0.0) or 1.0
    attention = gguf.real(f"{name}.rope.scaling.attn_factor", 1.0)
    if kind == "yarn" and factor > 1.0:
        return _yarn(gguf, factor, attention)
    if attention != 1.0 or kind not in ("none", "linear", "yarn", "longrope"):
        raise Unsupported(f"{gguf.path.name} scales its positions in the way {kind!r}")
    if kind == "linear" and factor != 1.0:
        return {"rope_type": "linear", "factor": factor}
    return {}


def _yarn(gguf: GGUF, factor: float, attention: float) -> Rope:
    prefix = f"{gguf.architecture}.rope.scaling"
    if gguf.real(f"{prefix}.yarn_log_multiplier", 0.0):
        raise Unsupported(f"{gguf.path.name} uses a YaRN multiplier that is not supported")
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original_context(gguf),
        "beta_fast": gguf.real(f"{prefix}.yarn_beta_fast", 32.0),
        "beta_slow": gguf.real(f"{prefix}.yarn_beta_slow", 1.0),
        # YaRN's own temperature (eq. 22 of the paper), times what the file adds
        "attention_factor": (0.1 * math.log(factor) + 1.0) * attention,
    }


def _longrope(gguf: GGUF) -> Rope:
    attention = gguf.real(f"{gguf.architecture}.rope.scaling.attn_factor", 1.0)
    return {
        "rope_type": "longrope",
        "long_factor": dequant.tensor(gguf, LONG_FACTORS).tolist(),
        "short_factor": dequant.tensor(gguf, SHORT_FACTORS).tolist(),
        "original_max_position_embeddings": original_context(gguf),
        "attention_factor": attention,
    }


def original_context(gguf: GGUF) -> int:
    """The context in tokens of the first training, before the positions were scaled."""
    name = gguf.architecture
    trained = gguf.whole(f"{name}.context_length")
    return gguf.whole(f"{name}.rope.scaling.original_context_length", trained)
