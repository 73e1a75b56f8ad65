"""An adapter that mlx-lm trained, as the PEFT folder that says the same.

    adapter_config.json      fine_tune_type, lora_parameters: rank, scale, dropout, keys
    adapters.safetensors     lora_a (in, rank) and lora_b (rank, out) of each module

mlx-lm computes W·x + scale · (x·a)·b (mlx_lm/tuner/lora.py), PEFT W·x + (alpha / rank) · B·(A·x).
So A is a transposed, B is b transposed, and alpha is scale · rank.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ollama_ft.core.errors import BadWeights, NotFound, Unsupported
from ollama_ft.core.files import write_bytes
from ollama_ft.weights.peft_folder import (
    CONFIG,
    MAX_CONFIG_BYTES,
    MAX_RANK,
    MAX_TENSOR_BYTES,
    TENSORS,
    read_tensors,
)

MLX_TENSORS = "adapters.safetensors"
_KEY = re.compile(r"(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[ab])")


def is_mlx(folder: Path) -> bool:
    """Whether the folder holds what mlx-lm writes."""
    return (folder / MLX_TENSORS).is_file() and (folder / CONFIG).is_file()


def mlx_to_peft(folder: Path, out: Path) -> Path:
    """Write the adapter as a PEFT folder at `out`; return it.

    Raises NotFound, BadWeights for files that are damaged or contradict each other, Unsupported
    for what is no LoRA of linear layers (DoRA, full weights, experts, embeddings).
    """
    config = _config(folder / CONFIG)
    path = folder / MLX_TENSORS
    if path.stat().st_size > MAX_TENSOR_BYTES:
        raise BadWeights(f"{path} is larger than {MAX_TENSOR_BYTES:,} bytes")
    rank, scale = _parameters(config)
    tensors = {
        _peft_name(name): np.ascontiguousarray(_matrix(name, value, rank).T)
        for name, value in read_tensors(path).items()
    }
    from safetensors.numpy import save

    write_bytes(out / TENSORS, save(dict(sorted(tensors.items()))))
    modules = {name.removeprefix("base_model.model.")[: -len(".lora_A.weight")] for name in tensors}
    peft = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(modules),
        "inference_mode": True,
    }
    write_bytes(out / CONFIG, json.dumps(peft, indent=2, sort_keys=True).encode())
    return out


def _config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise NotFound(f"there is no {path.name} in {path.parent}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise BadWeights(f"{path} is larger than {MAX_CONFIG_BYTES:,} bytes")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BadWeights(f"{path} is not a JSON object")
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise Unsupported(f"mlx-lm adapters of the kind {kind!r:.40} cannot be converted, lora can")
    return config


def _parameters(config: Mapping[str, Any]) -> tuple[int, float]:
    told = config.get("lora_parameters")
    told = told if isinstance(told, dict) else {}
    rank, scale = told.get("rank"), told.get("scale")
    if not isinstance(rank, int) or not isinstance(scale, int | float):
        raise BadWeights(f"{CONFIG}: lora_parameters lacks a rank or a scale")
    if not 1 <= rank <= MAX_RANK or not math.isfinite(scale):
        raise BadWeights(f"{CONFIG}: the rank or the scale of lora_parameters makes no sense")
    return rank, float(scale)


def _peft_name(name: str) -> str:
    found = _KEY.fullmatch(name)
    if not found or "embed_tokens" in name:
        raise Unsupported(
            f"the adapter holds {name!r:.80}, which is no LoRA matrix of a linear layer"
        )
    return f"base_model.model.{found['module']}.lora_{found['side'].upper()}.weight"


def _matrix(name: str, value: Any, rank: int) -> Any:
    inner = value.shape[-1 if name.endswith("_a") else 0] if value.ndim == 2 else None
    if inner != rank:
        raise BadWeights(f"the adapter's {name} has the shape {value.shape}, not of rank {rank}")
    return value
