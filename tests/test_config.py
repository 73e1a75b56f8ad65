"""Models whose metadata and tensors contradict each other are refused before anything is built."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights.architectures import load_model
from ollama_ft.weights.reader import open_gguf
from tests.tiny import tiny_model, write_gguf


def broken(path: Path, change: Callable[[dict[str, object], dict[str, np.ndarray]], None]) -> Path:
    """The tiny llama with metadata or tensors changed."""
    model = tiny_model("llama")
    source = write_gguf(model, "llama", path.with_suffix(".good"))
    reader = gguf.GGUFReader(source)
    fields = {
        key: value.contents()
        for key, value in reader.fields.items()
        if not key.startswith(("GGUF.", "tokenizer.", "general."))
    }
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    change(fields, tensors)
    writer = gguf.GGUFWriter(path, str(fields.pop("arch", "llama")))
    for key, value in fields.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add.get(type(value), writer.add_array)(key, value)
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


CONTRADICTIONS = {
    "another architecture": (lambda f, t: f.update(arch="mamba"), Unsupported, "mamba"),
    "experts": (lambda f, t: f.update({"llama.expert_count": 8}), Unsupported, "experts"),
    "a billion layers": (lambda f, t: f.update({"llama.block_count": 10**9}), BadWeights, "layers"),
    "one layer more": (lambda f, t: f.update({"llama.block_count": 3}), BadWeights, "blk.2"),
    "one layer fewer": (lambda f, t: f.update({"llama.block_count": 1}), Unsupported, "blk.1"),
    "no heads": (lambda f, t: f.update({"llama.attention.head_count": 0}), BadWeights, "0 heads"),
    "other heads": (lambda f, t: f.update({"llama.attention.head_count": 3}), BadWeights, "groups"),
    "heads by layer": (
        lambda f, t: f.update({"llama.attention.head_count_kv": [1, 2]}),
        BadWeights,
        "whole number",
    ),
    "wide heads": (
        lambda f, t: f.update({"llama.attention.key_length": 2**30}),
        BadWeights,
        "attn_q",
    ),
    "another width": (
        lambda f, t: f.update({"llama.embedding_length": 2**31}),
        BadWeights,
        "embedding_length",
    ),
    "a text for a number": (
        lambda f, t: f.update({"llama.context_length": "many"}),
        BadWeights,
        "context_length",
    ),
    "half-rotated heads": (
        lambda f, t: f.update({"llama.rope.dimension_count": 8}),
        Unsupported,
        "partly rotated",
    ),
    "odd rotation": (
        lambda f, t: f.update({"llama.rope.dimension_count": 7}),
        BadWeights,
        "rotates 7",
    ),
    "unknown scaling": (
        lambda f, t: f.update({"llama.rope.scaling.type": "spiral"}),
        Unsupported,
        "spiral",
    ),
    "a missing tensor": (lambda f, t: t.pop("output_norm.weight"), BadWeights, "output_norm"),
    "a missing matrix": (lambda f, t: t.pop("blk.0.attn_q.weight"), BadWeights, "attn_q"),
    "a tensor nobody uses": (
        lambda f, t: t.update({"blk.0.attn_sub_norm.weight": np.ones(64, np.float32)}),
        Unsupported,
        "attn_sub_norm",
    ),
    "a tensor of another shape": (
        lambda f, t: t.update({"blk.1.ffn_up.weight": np.ones((64, 96), np.float32)}),
        BadWeights,
        "ffn_up",
    ),
    "a vector for a matrix": (
        lambda f, t: t.update({"token_embd.weight": np.ones(64, np.float32)}),
        BadWeights,
        "matrix",
    ),
    "factors of another length": (
        lambda f, t: t.update({"rope_freqs.weight": np.ones(4, np.float32)}),
        BadWeights,
        "rope_freqs",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_model_that_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    change, kind, message = CONTRADICTIONS[name]
    with (
        open_gguf(broken(tmp_path / "broken.gguf", change)) as file,
        pytest.raises(kind, match=message),
    ):
        load_model(file)
