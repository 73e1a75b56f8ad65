"""A BERT encoder as GGUF, from its safetensors, configuration and WordPiece vocabulary.

What comes out has the keys, tensor names and types that Ollama writes when it imports the same
files: matrices in F16, all else in F32. The same files give the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ollama_ft.core.errors import BadWeights, Unsupported

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BLOCK = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_TOP = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
# llama.cpp's own spelling of the separator's key.
_SPECIAL = {"UNK": "unknown", "SEP": "seperator", "PAD": "padding", "CLS": "cls", "MASK": "mask"}
_PASSED_OVER = ("embeddings.position_ids", "pooler.")  # nothing that an embedding needs
_POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2}  # llama.cpp's numbers
_NORMAL, _CONTROL = 1, 3  # tokenizer.ggml.token_type


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The files of an encoder, as they are published."""

    weights: bytes  # model.safetensors
    config: bytes  # config.json
    vocabulary: bytes  # vocab.txt: a token each line
    pooling: bytes  # 1_Pooling/config.json of sentence-transformers


def write_bert(encoder: Encoder, target: Path) -> Path:
    """Write the encoder as a GGUF; return `target`.

    The vocabulary is taken to be of an uncased model, as llama.cpp lower-cases every text.

    Raises Unsupported for what is no BERT or pools in another way, BadWeights for files that
    contradict each other. `target` may be there in part then.
    """
    import gguf
    from safetensors import SafetensorError
    from safetensors.numpy import load

    config = _json(encoder.config, "config.json")
    if config.get("model_type") != "bert":
        raise Unsupported(f"{config.get('model_type')!r} is no BERT; only that is converted.")
    try:
        tensors: Mapping[str, npt.NDArray[Any]] = load(encoder.weights)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadWeights(f"model.safetensors cannot be read: {error}") from error
    named = _named(tensors)
    tokens = _tokens(encoder.vocabulary)
    _check(config, named, tokens)
    writer = gguf.GGUFWriter(target, "bert")
    _describe(writer, config, _pooling(encoder.pooling))
    _add_vocabulary(writer, tokens, config)
    for name in sorted(named):
        writer.add_tensor(name, _typed(name, named[name]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _json(content: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise BadWeights(f"{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadWeights(f"{name} holds no object.")
    return found


def _tokens(vocabulary: bytes) -> list[str]:
    try:
        tokens = vocabulary.decode().splitlines()
    except UnicodeDecodeError as error:
        raise BadWeights("vocab.txt is not UTF-8.") from error
    missing = [name for name in _SPECIAL if f"[{name}]" not in tokens]
    if missing:
        raise BadWeights(f"vocab.txt has no [{missing[0]}]: it is no WordPiece vocabulary.")
    return tokens


def _pooling(content: bytes) -> int:
    modes = _json(content, "1_Pooling/config.json")
    wanted = [name for name, on in modes.items() if name.startswith("pooling_mode") and on is True]
    if len(wanted) != 1 or wanted[0] not in _POOLING:
        raise Unsupported(f"Pooling by {', '.join(wanted) or 'nothing'} is not supported.")
    return _POOLING[wanted[0]]


def _named(tensors: "Mapping[str, npt.NDArray[Any]]") -> "dict[str, npt.NDArray[Any]]":
    """llama.cpp's names of the tensors. Raises BadWeights for one that has none."""
    named = {}
    for theirs, values in tensors.items():
        plain = theirs.removeprefix("bert.")
        if not plain.startswith(_PASSED_OVER):
            named[_name(plain)] = values
    return named


def _name(theirs: str) -> str:
    stem, _, kind = theirs.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    number, _, part = stem.removeprefix("encoder.layer.").partition(".")
    if part not in _BLOCK or not number.isdigit():
        raise BadWeights(f"model.safetensors has a tensor {theirs!r}, which no BERT has.")
    return f"blk.{number}.{_BLOCK[part]}.{kind}"


def _check(
    config: dict[str, Any], named: "Mapping[str, npt.NDArray[Any]]", tokens: list[str]
) -> None:
    try:
        width, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        shape = named["token_embd.weight"].shape
    except (KeyError, ValueError, TypeError) as error:
        raise BadWeights(f"The encoder's files lack {error}.") from error
    if shape != (len(tokens), width):
        raise BadWeights(f"The embeddings are {shape}, for {len(tokens)} tokens of width {width}.")
    expected = {f"blk.{n}.{part}.weight" for n in range(layers) for part in _BLOCK.values()}
    if missing := sorted(expected - named.keys()):
        raise BadWeights(f"model.safetensors lacks {missing[0]}.")


def _describe(writer: Any, config: dict[str, Any], pooling: int) -> None:
    writer.add_file_type(1)  # mostly F16
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", pooling)
    writer.add_bool("bert.normalize_embeddings", True)
    writer.add_quantization_version(2)


def _add_vocabulary(writer: Any, tokens: list[str], config: dict[str, Any]) -> None:
    # llama.cpp marks the start of a word, as SentencePiece does, and not its continuation.
    special = {f"[{name}]" for name in _SPECIAL}
    bracketed = [token.startswith("[") and token.endswith("]") for token in tokens]
    texts = [
        token if is_kept else token[2:] if token.startswith("##") else f"▁{token}"
        for token, is_kept in zip(tokens, bracketed, strict=True)
    ]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_types([_CONTROL if token in special else _NORMAL for token in tokens])
    writer.add_token_scores([-1.0] * len(texts))
    writer.add_token_type_count(config["type_vocab_size"])
    for theirs, name in _SPECIAL.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", tokens.index(f"[{theirs}]"))


def _typed(name: str, values: "npt.NDArray[Any]") -> "npt.NDArray[np.generic]":
    import numpy as np

    # llama.cpp adds the token types as they are, which it cannot in F16.
    is_wide = values.ndim < 2 or name == "token_types.weight"
    return values.astype(np.float32 if is_wide else np.float16)
