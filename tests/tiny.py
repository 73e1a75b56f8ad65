"""Tiny random models: made by transformers, written to GGUF by llama.cpp's own name tables."""

from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

VOCABULARY = 320
HIDDEN, HEADS, GROUPS, HEAD, WIDE = 64, 4, 2, 16, 96

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 257,
    "tie_word_embeddings": False,
    "initializer_range": 0.4,  # wide enough for attention to matter in the logits
}
_CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
    "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
}


def tiny_model(kind: str, **changes: object) -> PreTrainedModel:
    """A two-layer model of that kind with random weights, also where training would start at 0 or 1."""
    config_class, model_class = _CLASSES[kind]
    fields = dict(_COMMON)
    if kind != "phi3":
        fields["head_dim"] = HEAD
    if kind.startswith("gemma"):
        fields |= {"tie_word_embeddings": True, "query_pre_attn_scalar": HEAD, "sliding_window": 8}
    config = config_class(**(fields | changes))
    torch.manual_seed(7)
    model = model_class._from_config(config, attn_implementation="eager").eval()
    for name, value in model.named_parameters():
        if value.ndim == 1:
            torch.nn.init.normal_(
                value.data, 0.0 if "bias" in name or "gemma" in kind else 1.0, 0.3
            )
    return model


def write_gguf(
    model: PreTrainedModel,
    arch: str,
    path: Path,
    metadata: dict[str, object] | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write the model in float32 as llama.cpp's converter would. `metadata` has names without arch."""
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    fields: dict[str, object] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": 10000.0,
    }
    if arch in ("qwen3", "gemma2", "gemma3"):
        fields |= {
            "attention.key_length": config.head_dim,
            "attention.value_length": config.head_dim,
        }
    for key, value in (fields | (metadata or {})).items():
        _add(writer, f"{arch}.{key}", value)
    add_vocabulary(writer)
    for name, value in _tensors(model, arch).items():
        writer.add_tensor(name, value)
    for name, value in (extra or {}).items():
        writer.add_tensor(name, value)
    return finish(writer, path)


def _tensors(model: PreTrainedModel, arch: str) -> dict[str, np.ndarray]:
    config = model.config
    names = gguf.get_tensor_name_map(_arch(arch), config.num_hidden_layers)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    tensors = {}
    for name, value in model.state_dict().items():
        if name in tied:
            continue
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert new is not None, name
        array = value.detach().float().numpy().copy()
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
            array = halves.swapaxes(1, 2).reshape(array.shape)
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            array += 1.0
        tensors[new] = array
    return tensors


def _arch(name: str) -> gguf.MODEL_ARCH:
    return next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)


def byte_alphabet() -> list[str]:
    """GPT-2's letter for each byte, in the order of the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, spare = [], 256
    for byte in range(256):
        letters.append(chr(byte) if byte in printable else chr(spare))
        spare += byte not in printable
    return letters


def add_vocabulary(writer: gguf.GGUFWriter, pre: str = "gpt-2", size: int = VOCABULARY) -> None:
    """A byte-level vocabulary with two control tokens and some merges, filled up to `size`."""
    letters = byte_alphabet()
    tokens = [*letters, "<|begin|>", "<|im_end|>"]
    merges = []
    for pair in ("t h", "th e", "i n", "Ġ t", "Ġt he", "1 2", "Ġ Ġ", "ĠĠ ĠĠ", "Ċ Ċ"):
        merges.append(pair)
        tokens.append(pair.replace(" ", ""))
    kinds = [1] * 256 + [3, 3] + [1] * len(merges)
    kinds += [5] * (size - len(tokens))
    tokens += [f"<unused{index}>" for index in range(size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    """Write everything out."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
