"""What a GGUF says about itself, as far as the API tells it or the engine needs it. Read once for
each blob."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ollama_ft.weights.reader import GGUF, TensorInfo, Value, open_gguf

# llama.cpp's enum llama_ftype (include/llama.h), by the names that Ollama shows.
_FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
_HIDDEN = ("tokenizer.chat_template", "general.name")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A GGUF's header, without its vocabulary."""

    architecture: str
    kind: str  # general.type: "model", "adapter", "" if the file does not say
    parameters: int
    file_type: str
    context_length: int  # tokens that it was trained for; 0 if the file does not say
    embedding_length: int
    chat_template: str  # the Jinja; "" if there is none
    leading_token: str  # the text of BOS, if the tokenizer puts one in front; else ""
    is_encoder: bool  # gives embeddings and cannot write
    cache_bytes: int  # of keys and values for one token, in f16
    info: Mapping[str, Value | None]  # what show tells; lists are None
    tensors: Mapping[str, TensorInfo]


@lru_cache(maxsize=512)
def read_facts(path: Path) -> Facts:
    """The facts of a blob, whose content never changes.

    Raises BadWeights, Unsupported, NotFound.
    """
    with open_gguf(path) as gguf:
        return _facts(gguf)


def read_lists(path: Path) -> dict[str, Value]:
    """The metadata that `Facts.info` leaves out: vocabulary, merges and other lists."""
    with open_gguf(path) as gguf:
        return {key: value for key, value in gguf.metadata.items() if isinstance(value, list)}


def _facts(gguf: GGUF) -> Facts:
    architecture = gguf.text("general.architecture", "")
    return Facts(
        architecture=architecture,
        kind=gguf.text("general.type", ""),
        parameters=sum(_elements(tensor) for tensor in gguf.tensors.values()),
        file_type=_FILE_TYPES.get(gguf.whole("general.file_type", -1), "unknown"),
        context_length=gguf.whole(f"{architecture}.context_length", 0),
        embedding_length=gguf.whole(f"{architecture}.embedding_length", 0),
        chat_template=gguf.text("tokenizer.chat_template", ""),
        leading_token=_leading_token(gguf),
        is_encoder=f"{architecture}.pooling_type" in gguf.metadata,
        cache_bytes=_cache_bytes(gguf, architecture),
        info=_info(gguf),
        tensors=dict(gguf.tensors),
    )


def human_count(number: int) -> str:
    """A count of parameters as Ollama prints it: 134.52M, 7B, 1.5B."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if number >= unit:
            places = 0 if number % unit == 0 else digits
            return f"{number / unit:.{places}f}{letter}"
    return str(number)


def _elements(tensor: TensorInfo) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count


def _leading_token(gguf: GGUF) -> str:
    # llama.cpp adds BOS for SentencePiece vocabularies unless told not to, for BPE only if told to.
    default = gguf.text("tokenizer.ggml.model", "") == "llama"
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    number = gguf.whole("tokenizer.ggml.bos_token_id", 1)
    if not gguf.flag("tokenizer.ggml.add_bos_token", default) or not isinstance(tokens, list):
        return ""
    return str(tokens[number]) if 0 <= number < len(tokens) else ""


def _cache_bytes(gguf: GGUF, architecture: str) -> int:
    layers = gguf.whole(f"{architecture}.block_count", 0)
    heads = _largest(gguf.metadata.get(f"{architecture}.attention.head_count"))
    groups = _largest(gguf.metadata.get(f"{architecture}.attention.head_count_kv")) or heads
    width = gguf.whole(f"{architecture}.embedding_length", 0) // max(heads, 1)
    key = gguf.whole(f"{architecture}.attention.key_length", width)
    value = gguf.whole(f"{architecture}.attention.value_length", width)
    return layers * groups * (key + value) * 2


def _largest(value: Value | None) -> int:
    numbers = value if isinstance(value, list) else [value]
    return max((number for number in numbers if isinstance(number, int)), default=0)


def _info(gguf: GGUF) -> dict[str, Value | None]:
    shown = {key: value for key, value in gguf.metadata.items() if key not in _HIDDEN}
    return {key: None if isinstance(value, list) else value for key, value in shown.items()}
