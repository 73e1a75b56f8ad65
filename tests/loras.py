"""Adapters made in a moment, as other tools write them: small random changes to a real base."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ollama_ft.weights.architectures import hf_module_to_gguf
from ollama_ft.weights.reader import open_gguf

RANK = 4


def matrices(
    base: Path, strength: float = 1.0, seed: int = 0, leaf: str = "down_proj"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A (rank, in) and B (out, rank) for one kind of module in a third of the layers."""
    random = np.random.default_rng(seed)
    made = {}
    with open_gguf(base) as gguf:
        for name, layer in hf_module_to_gguf(gguf).items():
            if name.endswith(leaf) and int(name.split(".")[2]) % 3 == 0:
                rows, columns = layer.shape
                a = random.standard_normal((RANK, columns)) / np.sqrt(columns)
                b = random.standard_normal((rows, RANK)) * strength / np.sqrt(rows)
                made[name] = (a.astype(np.float32), b.astype(np.float32))
    return made


def peft_folder(folder: Path, base: Path, **how: object) -> Path:
    """What PEFT's save_pretrained leaves, with alpha twice the rank."""
    folder.mkdir(parents=True)
    tensors = {}
    for module, (a, b) in matrices(base, **how).items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "somebody/some-model",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.05,
        "target_modules": ["down_proj"],
        "bias": "none",
        "peft_version": "0.21.2",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def mlx_folder(folder: Path, base: Path, **how: object) -> Path:
    """The same adapter as mlx-lm's trainer leaves it."""
    folder.mkdir(parents=True)
    tensors = {}
    for module, (a, b) in matrices(base, **how).items():
        tensors[f"{module}.lora_a"] = np.ascontiguousarray(a.T)
        tensors[f"{module}.lora_b"] = np.ascontiguousarray(b.T)
    save_file(tensors, folder / "adapters.safetensors")
    config = {
        "fine_tune_type": "lora",
        "num_layers": 16,
        "lora_parameters": {"rank": RANK, "dropout": 0.0, "scale": 2.0},
        "model": "mlx-community/some-model",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
