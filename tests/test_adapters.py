"""An adapter that llama.cpp would refuse is refused before, with the reason."""

from pathlib import Path

import numpy as np
import pytest

from ollama_ft.runtime.embedded.adapters import misfit


def write(
    path: Path, architecture: str, tensors: dict[str, tuple[int, int]], kind: str = "adapter"
) -> Path:
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_string("adapter.type", "lora")
    for name, shape in tensors.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    weight = {
        "token_embd.weight": (8, 4),
        "blk.0.attn_q.weight": (6, 4),
        "output_norm.weight": (4, 4),
    }
    return write(tmp_path / "base.gguf", "llama", weight, kind="model")


GOOD = {"blk.0.attn_q.weight.lora_a": (2, 4), "blk.0.attn_q.weight.lora_b": (6, 2)}


def test_one_that_fits_has_no_misfit(tmp_path: Path, base: Path) -> None:
    assert misfit(write(tmp_path / "a", "llama", GOOD), base) == ""


def test_the_embeddings_adapter_stands_the_other_way_round(tmp_path: Path, base: Path) -> None:
    tensors = {"token_embd.weight.lora_a": (8, 2), "token_embd.weight.lora_b": (4, 2)}
    assert misfit(write(tmp_path / "a", "llama", tensors), base) == ""


@pytest.mark.parametrize(
    ("architecture", "tensors", "said"),
    [
        ("qwen2", GOOD, "for qwen2, the base is llama"),
        ("llama", GOOD | {"blk.0.attn_q.weight.lora_a": (2, 5)}, "is 6×4 in the base"),
        ("llama", GOOD | {"blk.0.attn_q.weight.lora_b": (6, 3)}, "is 6×4 in the base"),
        ("llama", {"blk.0.attn_q.weight.lora_a": (2, 4)}, "only one half"),
        (
            "llama",
            {"blk.9.attn_q.weight.lora_a": (2, 4), "blk.9.attn_q.weight.lora_b": (6, 2)},
            "no tensor",
        ),
        ("llama", GOOD | {"blk.0.attn_q.bias": (2, 4)}, "neither lora_a nor lora_b"),
    ],
)
def test_the_reason_is_plain(
    tmp_path: Path, base: Path, architecture: str, tensors: dict[str, tuple[int, int]], said: str
) -> None:
    assert said in misfit(write(tmp_path / "a", architecture, tensors), base)


def test_what_is_no_adapter_or_no_gguf_is_said(tmp_path: Path, base: Path) -> None:
    assert "no LoRA adapter" in misfit(base, base)
    (tmp_path / "noise").write_bytes(b"x" * 100)
    assert "GGUF" in misfit(tmp_path / "noise", base)
