"""PEFT folders: what a GGUF cannot say is refused with the reason, and nothing is left behind."""

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ollama_ft.core.errors import BadWeights, NotFound, Unsupported
from ollama_ft.weights.architectures import load_model
from ollama_ft.weights.reader import open_gguf
from tests.test_adapter import converted, saved, tiny_base, trained


def change_config(folder: Path, **fields: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {name: value.copy() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


A0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
B0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: change_tensors(
        folder, lambda t: t.update({key.replace(old, new): t.pop(key) for key in list(t)})
    )


REFUSED: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "DoRA": (lambda f: change_config(f, use_dora=True), Unsupported, "DoRA"),
    "DoRA by its tensors": (
        lambda f: change_tensors(
            f,
            lambda t: t.update({B0.replace("lora_B.weight", "lora_magnitude_vector"): t[B0][:, 0]}),
        ),
        Unsupported,
        "DoRA",
    ),
    "whole modules": (
        lambda f: change_config(f, modules_to_save=["lm_head"]),
        Unsupported,
        "modules_to_save",
    ),
    "whole modules by their tensors": (
        lambda f: change_tensors(
            f, lambda t: t.update({"base_model.model.lm_head.weight": np.ones((9, 9), np.float32)})
        ),
        Unsupported,
        "no LoRA matrix",
    ),
    "biases": (lambda f: change_config(f, bias="lora_only"), Unsupported, "biases"),
    "biases of the adapter": (lambda f: change_config(f, lora_bias=True), Unsupported, "biases"),
    "PiSSA": (
        lambda f: change_config(f, init_lora_weights="pissa_niter_4"),
        Unsupported,
        "base's own",
    ),
    "transposed": (lambda f: change_config(f, fan_in_fan_out=True), Unsupported, "fan_in_fan_out"),
    "trained tokens": (
        lambda f: change_config(f, trainable_token_indices=[1]),
        Unsupported,
        "embeddings",
    ),
    "another method": (lambda f: change_config(f, peft_type="IA3"), Unsupported, "IA3"),
    "something newer": (lambda f: change_config(f, use_wonders=True), Unsupported, "use_wonders"),
    "embeddings": (
        lambda f: change_tensors(
            f,
            lambda t: t.update(
                {
                    "base_model.model.model.embed_tokens.lora_embedding_A": np.ones(
                        (4, 320), np.float32
                    )
                }
            ),
        ),
        Unsupported,
        "embeddings",
    ),
    "a tied head": (renamed("model.layers.0.self_attn.q_proj", "lm_head"), Unsupported, "tied"),
    "a name that the base lacks": (renamed("layers.0", "layers.9"), BadWeights, "layers.9"),
    "a fused layer that the base lacks": (renamed("q_proj", "qkv_proj"), BadWeights, "qkv_proj"),
    "another adapter's name": (renamed("lora_A.", "lora_A.mine."), Unsupported, "no LoRA matrix"),
    "another base": (
        lambda f: change_tensors(f, lambda t: t.update({A0: np.ones((4, 32), np.float32)})),
        BadWeights,
        "not for this base",
    ),
    "one half": (lambda f: change_tensors(f, lambda t: t.pop(A0)), BadWeights, "one half"),
    "another rank": (lambda f: change_config(f, r=5), BadWeights, "rank 5"),
    "NaN": (
        lambda f: change_tensors(f, lambda t: t[A0].__setitem__((0, 0), np.nan)),
        BadWeights,
        "no numbers",
    ),
    "infinity": (
        lambda f: change_tensors(f, lambda t: t[B0].__setitem__((0, 0), np.inf)),
        BadWeights,
        "no numbers",
    ),
    "overflow": (
        lambda f: change_tensors(f, lambda t: t[B0].__setitem__((0, 0), 3e38)),
        BadWeights,
        "overflows",
    ),
    "nothing learnt": (
        lambda f: change_tensors(f, lambda t: [t[key].fill(0) for key in t if "lora_B" in key]),
        BadWeights,
        "learnt nothing",
    ),
    "whole numbers": (
        lambda f: change_tensors(f, lambda t: t.update({A0: np.ones((4, 64), np.int32)})),
        Unsupported,
        "I32",
    ),
    "no configuration": (
        lambda f: (f / "adapter_config.json").unlink(),
        NotFound,
        "adapter_config",
    ),
    "no tensors": (lambda f: (f / "adapter_model.safetensors").unlink(), NotFound, "adapter_model"),
    "configuration that is no JSON": (
        lambda f: (f / "adapter_config.json").write_text("{"),
        BadWeights,
        "JSON",
    ),
    "a rank that is no number": (lambda f: change_config(f, r="many"), BadWeights, "r: "),
    "rank 0": (lambda f: change_config(f, r=0), BadWeights, "no sense"),
    "an endless pattern": (
        lambda f: change_config(f, rank_pattern={"(.*)*x": 4}),
        BadWeights,
        "intricate",
    ),
    "a broken pattern": (
        lambda f: change_config(f, alpha_pattern={"(q": 4}),
        BadWeights,
        "regular",
    ),
    "a header of 2^62 bytes": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        BadWeights,
        "safetensors",
    ),
    "a tensor past the end": (
        lambda f: safetensors(
            f, {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
        ),
        BadWeights,
        "safetensors",
    ),
    "an empty file": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(b""),
        BadWeights,
        "safetensors",
    ),
    "a pickle": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(b"\x80\x04K\x01."),
        BadWeights,
        "safetensors",
    ),
}


def safetensors(folder: Path, header: dict[str, object]) -> None:
    content = json.dumps(header).encode()
    path = folder / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(64))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tied base, and an adapter of it."""
    folder = tmp_path_factory.mktemp("tied")
    base = tiny_base("llama", folder, tie_word_embeddings=True)
    with open_gguf(base) as file:
        return base, saved(trained(load_model(file), ["q_proj"]), folder / "peft")


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_gguf_cannot_say_is_refused_with_the_reason(
    name: str, tied: tuple[Path, Path], tmp_path: Path
) -> None:
    base, good = tied
    folder = tmp_path / "peft"
    folder.mkdir()
    for file in good.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    change, kind, message = REFUSED[name]
    change(folder)
    out = tmp_path / "out" / "adapter.gguf"
    start = time.process_time()
    with pytest.raises(kind, match=message):
        converted(base, folder, out)
    assert time.process_time() - start < 1
    assert not out.exists() and not list(tmp_path.glob("out/*"))
