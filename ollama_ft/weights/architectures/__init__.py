"""From a GGUF alone to a transformers model: which architectures, their names, their configuration.

    names.py    which GGUF tensor is which module's, and whose rows are permuted (no torch)
    config.py   the metadata as a transformers configuration
    rope.py     rotary positions: bases, scaling, factors stored as tensors
    build.py    the model, built empty and filled with the dequantised tensors

torch and transformers are imported only when a model or a configuration is asked for.
"""

from typing import TYPE_CHECKING

from ollama_ft.weights.architectures.names import (
    SUPPORTED,
    LinearLayer,
    hf_module_to_gguf,
    lora_targets,
    rows_from_gguf,
    rows_to_gguf,
)
from ollama_ft.weights.reader import GGUF

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "SUPPORTED",
    "LinearLayer",
    "hf_module_to_gguf",
    "load_model",
    "lora_targets",
    "model_config",
    "rows_from_gguf",
    "rows_to_gguf",
]


def load_model(
    gguf: GGUF, *, dtype: "torch.dtype | None" = None, device: str = "cpu"
) -> "PreTrainedModel":
    """The GGUF's model as transformers' own class: evaluation mode, no gradients.

    `dtype` is float32 unless given. Raises Unsupported naming the architecture or tensor type that
    we do not handle, and BadWeights if metadata and tensors contradict each other.
    """
    from ollama_ft.weights.architectures.build import build_model

    return build_model(gguf, dtype=dtype, device=device)


def model_config(gguf: GGUF) -> "PreTrainedConfig":
    """The transformers configuration that the GGUF's metadata and tensor list describe.

    Raises as `load_model` does.
    """
    from ollama_ft.weights.architectures.config import read_config

    return read_config(gguf)
