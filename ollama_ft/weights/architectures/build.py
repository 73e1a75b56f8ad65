"""Build a transformers model without weights, then fill it with the GGUF's tensors."""

import threading
from collections.abc import Iterator

import numpy as np
import torch
from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights import dequant
from ollama_ft.weights.architectures.config import read_config
from ollama_ft.weights.architectures.names import (
    OUTSIDE_LAYERS,
    Names,
    head_counts,
    names_of,
    rows_from_gguf,
)
from ollama_ft.weights.architectures.rope import (
    FREQUENCY_FACTORS,
    LONG_FACTORS,
    SHORT_FACTORS,
)
from ollama_ft.weights.reader import GGUF

# Tensors that do not become parameters, and those of a picture encoder beside the text model.
_NOT_PARAMETERS = (FREQUENCY_FACTORS, LONG_FACTORS, SHORT_FACTORS)
_PICTURES = ("v.", "mm.")
_BUILDING = threading.Lock()


def build_model(gguf: GGUF, *, dtype: torch.dtype | None, device: str) -> PreTrainedModel:
    """What `architectures.load_model` promises."""
    dtype = dtype or torch.float32
    config = read_config(gguf)
    model = _empty(config, dtype)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del wanted["lm_head.weight"]
    state = dict(_parameters(gguf, wanted, dtype, device))
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    if FREQUENCY_FACTORS in gguf.tensors:
        _divide_frequencies(gguf, model)
    # The remaining buffers (rotary frequencies) stay float32, as transformers keeps them.
    return model.to(device).requires_grad_(False).eval()


def _empty(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    # Scaled-dot-product attention cannot soften its scores, which Gemma 2 needs.
    softened = getattr(config, "attn_logit_softcapping", None)
    attention = "eager" if softened else "sdpa"
    # Buffers are computed for real: they are small, and in no file. The lock is there because both
    # contexts change torch.nn itself for a moment.
    with _BUILDING, init_empty_weights(include_buffers=False), no_init_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention
        )
    return model


def _parameters(
    gguf: GGUF, wanted: dict[str, tuple[int, ...]], dtype: torch.dtype, device: str
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter by transformers' name, filled; refuses tensors that nobody asks for."""
    names = names_of(gguf)
    used: set[str] = set()
    for name, shape in wanted.items():
        module, _, leaf = name.rpartition(".")
        tensor = f"{_tensor_of(module, names)}.{leaf}"
        if tensor not in gguf.tensors and leaf == "bias" and module.endswith("o_proj"):
            # transformers has one switch for all four attention biases; llama.cpp has none here
            yield name, torch.zeros(shape, dtype=dtype, device=device)
            continue
        used.add(tensor)
        yield name, _parameter(gguf, tensor, module, shape).to(device=device, dtype=dtype)
    _refuse_unused(gguf, used)


def _parameter(gguf: GGUF, tensor: str, module: str, shape: tuple[int, ...]) -> torch.Tensor:
    names = names_of(gguf)
    info = gguf.tensors.get(tensor)
    if info is None or info.shape != shape:
        found = "missing" if info is None else str(info.shape)
        raise BadWeights(f"{gguf.path.name}: {tensor!r} should be {shape}; it is {found}")
    values = dequant.tensor(gguf, tensor)
    inner = _inside_layer(module)
    if inner in names.permuted:
        values = values[rows_from_gguf(shape[0], _heads(gguf, inner))]
    if names.shifted_norms and module.endswith("norm"):
        values -= np.float32(1.0)
    return torch.from_numpy(values)


def _heads(gguf: GGUF, inner: str) -> int:
    heads, groups = head_counts(gguf)
    return heads if inner.endswith("q_proj") else groups


def _tensor_of(module: str, names: Names) -> str:
    if module in OUTSIDE_LAYERS:
        return OUTSIDE_LAYERS[module]
    inner = _inside_layer(module)
    index = module.split(".")[2]
    leaf = names.linear.get(inner) or names.norms[inner]
    return f"blk.{index}.{leaf}"


def _inside_layer(module: str) -> str:
    """The module's name inside its layer, e.g. "self_attn.q_proj"; "" outside the layers."""
    return module.split(".", 3)[3] if module.startswith("model.layers.") else ""


def _refuse_unused(gguf: GGUF, used: set[str]) -> None:
    # A tensor that is not applied would make another model than the one that is served.
    left = [
        name
        for name in gguf.tensors
        if name not in used and name not in _NOT_PARAMETERS and not name.startswith(_PICTURES)
    ]
    if left:
        raise Unsupported(
            f"{gguf.path.name} holds {len(left)} tensors that {gguf.architecture} models do not "
            f"have, first {left[0]!r}"
        )


def _divide_frequencies(gguf: GGUF, model: PreTrainedModel) -> None:
    """Apply Llama 3.1's position scaling, stored in the GGUF as a divisor for each frequency."""
    divisors = torch.from_numpy(dequant.tensor(gguf, FREQUENCY_FACTORS))
    rotary = model.get_submodule("model.rotary_emb")
    for name, buffer in list(rotary.named_buffers()):
        if buffer.shape != divisors.shape:
            raise BadWeights(f"{gguf.path.name}: {FREQUENCY_FACTORS!r} does not fit the heads")
        setattr(rotary, name, buffer / divisors)
