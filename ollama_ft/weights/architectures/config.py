"""The GGUF's metadata as a transformers configuration: no hub, no config.json.

Sizes come from the tensors where they can, so that metadata that lies cannot make us allocate;
defaults are those of llama.cpp, since llama.cpp is who serves the file.
"""

from collections.abc import Callable, Mapping

from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from ollama_ft.core.errors import BadWeights
from ollama_ft.weights.architectures.names import (
    head_counts,
    layer_count,
    matrix_shape,
    names_of,
)
from ollama_ft.weights.architectures.rope import (
    DEFAULT_BASE,
    Rope,
    original_context,
    rope_parameters,
)
from ollama_ft.weights.reader import GGUF

Fields = dict[str, object]


def read_config(gguf: GGUF) -> PreTrainedConfig:
    """The configuration of the file's architecture.

    Raises Unsupported for one that we do not handle, BadWeights for contradictions.
    """
    names_of(gguf)
    kind, special = _KINDS[gguf.architecture]
    common = _common(gguf)
    try:
        return kind(**(common | special(gguf, common)))
    except ValueError as error:  # transformers checks what it is given
        raise BadWeights(f"{gguf.path.name}: {error}") from error


def _common(gguf: GGUF) -> Fields:
    name = gguf.architecture
    vocabulary, hidden = matrix_shape(gguf, "token_embd.weight")
    layers = layer_count(gguf)
    heads, groups = head_counts(gguf)
    head_size = gguf.whole(f"{name}.attention.key_length", hidden // heads)
    _check(gguf, hidden, heads * head_size, groups * head_size)
    # Ollama's own converter has another name for Gemma's.
    base = gguf.real(f"{name}.rope.global.freq_base", DEFAULT_BASE)
    base = gguf.real(f"{name}.rope.freq_base", base)
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": matrix_shape(gguf, "blk.0.ffn_down.weight")[1],
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": head_size,
        "max_position_embeddings": gguf.whole(f"{name}.context_length"),
        "rms_norm_eps": gguf.real(f"{name}.attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope_parameters(gguf, head_size, base),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "bos_token_id": _token(gguf, "bos"),
        "eos_token_id": _token(gguf, "eos"),
        "pad_token_id": _token(gguf, "padding"),
    }


def _check(gguf: GGUF, hidden: int, queries: int, keys: int) -> None:
    """What a hostile file could inflate must agree with tensors that the file really holds."""
    if hidden != gguf.whole(f"{gguf.architecture}.embedding_length"):
        raise BadWeights(f"{gguf.path.name}: embedding_length is not that of the embedding itself")
    if gguf.architecture == "phi3":
        sizes = [("blk.0.attn_qkv.weight", queries + 2 * keys)]
    else:
        sizes = [("blk.0.attn_q.weight", queries), ("blk.0.attn_k.weight", keys)]
    for tensor, rows in sizes:
        found = matrix_shape(gguf, tensor)
        if found != (rows, hidden):
            raise BadWeights(f"{gguf.path.name}: {tensor!r} is {found}, not {(rows, hidden)}")


def _token(gguf: GGUF, kind: str) -> int | None:
    key = f"tokenizer.ggml.{kind}_token_id"
    return gguf.whole(key) if key in gguf.metadata else None


def _llama(gguf: GGUF, common: Fields) -> Fields:
    return {
        "attention_bias": "blk.0.attn_q.bias" in gguf.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in gguf.tensors,
    }


def _qwen2(gguf: GGUF, common: Fields) -> Fields:
    return {}


def _qwen3(gguf: GGUF, common: Fields) -> Fields:
    return {"attention_bias": "blk.0.attn_q.bias" in gguf.tensors}


def _phi3(gguf: GGUF, common: Fields) -> Fields:
    # llama.cpp leaves Phi's sliding window unused, so the model is trained as it is served.
    return {"original_max_position_embeddings": original_context(gguf), "sliding_window": None}


def _gemma2(gguf: GGUF, common: Fields) -> Fields:
    return _gemma(gguf, common, biggest=46) | {
        "sliding_window": gguf.whole("gemma2.attention.sliding_window", 4096),
        "layer_types": _layer_types(gguf, 2),
        "attn_logit_softcapping": gguf.real("gemma2.attn_logit_softcapping", 50.0),
        "final_logit_softcapping": gguf.real("gemma2.final_logit_softcapping", 30.0),
    }


def _gemma3(gguf: GGUF, common: Fields) -> Fields:
    window = gguf.whole("gemma3.attention.sliding_window", 0)
    # Layers with a window keep the first base and are never scaled; 10000 is llama.cpp's default.
    base = gguf.real("gemma3.rope.local.freq_base", DEFAULT_BASE)
    base = gguf.real("gemma3.rope.freq_base_swa", base)
    local: Rope = {"rope_type": "default", "rope_theta": base}
    return _gemma(gguf, common, biggest=62) | {
        "sliding_window": window or None,
        "layer_types": _layer_types(gguf, 6 if window else 1),
        "final_logit_softcapping": gguf.real("gemma3.final_logit_softcapping", 0.0) or None,
        "rope_parameters": {
            "full_attention": common["rope_parameters"],
            "sliding_attention": local,
        },
    }


def _gemma(gguf: GGUF, common: Fields, *, biggest: int) -> Fields:
    heads, _ = head_counts(gguf)
    _, hidden = matrix_shape(gguf, "token_embd.weight")
    # Scores are divided by the root of the head's size, but for the 27B models, told by their depth
    # (llama.cpp does the same), where it is the width divided among the heads.
    size = hidden // heads if layer_count(gguf) == biggest else common["head_dim"]
    return {"query_pre_attn_scalar": size, "hidden_activation": "gelu_pytorch_tanh"}


def _layer_types(gguf: GGUF, period: int) -> list[str]:
    """Every `period`-th layer sees everything, the others a window; a list in the file wins."""
    key = f"{gguf.architecture}.attention.sliding_window_pattern"
    layers = layer_count(gguf)
    pattern = gguf.metadata.get(key)
    if isinstance(pattern, list):
        windowed = [bool(item) for item in pattern]
        if len(windowed) != layers:
            raise BadWeights(f"{gguf.path.name}: {key} does not fit {layers} layers")
    else:
        period = gguf.whole(key, period)
        windowed = [period == 0 or (index + 1) % period != 0 for index in range(layers)]
    return ["sliding_attention" if item else "full_attention" for item in windowed]


_KINDS: Mapping[str, tuple[type[PreTrainedConfig], Callable[[GGUF, Fields], Fields]]] = {
    "llama": (LlamaConfig, _llama),
    "qwen2": (Qwen2Config, _qwen2),
    "qwen3": (Qwen3Config, _qwen3),
    "gemma2": (Gemma2Config, _gemma2),
    "gemma3": (Gemma3TextConfig, _gemma3),
    "phi3": (Phi3Config, _phi3),
}
