"""Read a PEFT adapter folder: its configuration, its tensors, the exact scale of each module.

    adapter_config.json          what was trained, and how it is scaled
    adapter_model.safetensors    lora_A (rank, in) and lora_B (out, rank) of each module

What an adapter GGUF cannot say is refused here by name, rather than converted into something else.
Only safetensors are read: a pickle could run code.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from ollama_ft.core.errors import BadWeights, NotFound, Unsupported

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1 << 20
MAX_TENSOR_BYTES = 8 << 30
MAX_RANK = 4096

Number = TypeVar("Number", int, float)

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
# Where a text model sits inside a model that also sees pictures.
_LAYERS = re.compile(r"^(?:model\.language_model|language_model\.model)\.")


class PeftConfig(BaseModel):
    """The fields that decide what the tensors mean; the others must be at rest."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}

    def rank(self, module: str) -> int:
        """The rank that the module should have."""
        return _matching(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """What PEFT multiplies B·A with: alpha/r (arXiv 2106.09685, 4.1), rsLoRA's alpha/sqrt(r)
        (arXiv 2312.03732).
        """
        rank = self.rank(module)
        return _matching(self.alpha_pattern, module, self.lora_alpha) / (
            math.sqrt(rank) if self.use_rslora else rank
        )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One module's LoRA, with the weight's change being scale · b · a."""

    module: str  # "model.layers.3.self_attn.q_proj"
    a: npt.NDArray[np.float32]  # (rank, in)
    b: npt.NDArray[np.float32]  # (out, rank)
    scale: float


def read_peft(folder: Path) -> list[Pair]:
    """The pairs of a PEFT folder, by module name.

    Raises NotFound if a file is missing, BadWeights if the files are damaged or contradict each
    other or nothing was learnt, Unsupported for what a GGUF adapter cannot express.
    """
    config = _config(_present(folder / CONFIG, MAX_CONFIG_BYTES))
    sides: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for key, value in read_tensors(_present(folder / TENSORS, MAX_TENSOR_BYTES)).items():
        if not key.endswith(".base_layer.weight"):  # a copy of the base's own weight
            module, side = _module(key)
            sides.setdefault(module, {})[side] = value
    pairs = [_pair(module, sides[module], config) for module in sorted(sides)]
    if not pairs or not any(pair.b.any() for pair in pairs):
        raise BadWeights(f"the adapter in {folder} has learnt nothing: every lora_B is zero")
    return pairs


def _present(path: Path, most: int) -> Path:
    if not path.is_file():
        raise NotFound(f"there is no {path.name} in {path.parent}")
    if path.stat().st_size > most:
        raise BadWeights(f"{path} is larger than {most:,} bytes")
    return path


def _config(path: Path) -> PeftConfig:
    try:
        config = PeftConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadWeights(f"{path}: {where}: {first['msg']}") from error
    if config.peft_type != "LORA":
        raise Unsupported(f"adapters of the kind {config.peft_type} cannot be converted, LORA can")
    if not 1 <= config.r <= MAX_RANK or not math.isfinite(config.lora_alpha):
        raise BadWeights(f"{path}: r or lora_alpha makes no sense")
    _refuse_extras(config.model_extra or {})
    return config


# Fields that say where an adapter came from or which modules were chosen: the tensors tell.
_HARMLESS = (
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "task_type",
    "inference_mode",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "peft_version",
    "runtime_config",
    "megatron_core",
    "ensure_weight_tying",
    "qalora_group_size",
)
_AT_REST: Mapping[str, tuple[object, ...]] = {
    "bias": ("none",),
    # The others change the base's weights too, which would then not be those that are served.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}
_REASONS: Mapping[str, str] = {
    "use_dora": "DoRA's magnitudes have no place in a GGUF adapter",
    "modules_to_save": "whole modules were trained beside the adapter (modules_to_save)",
    "bias": "biases were trained beside the adapter",
    "lora_bias": "the adapter itself has biases",
    "fan_in_fan_out": "the weights are stored transposed (fan_in_fan_out)",
    "init_lora_weights": "its initialisation changes the base's own weights",
    "trainable_token_indices": "tokens' embeddings were trained beside the adapter",
}


def _refuse_extras(fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        resting = _AT_REST.get(name, (None, False))
        if name in _HARMLESS or value in resting or value in ([], {}, ""):
            continue
        reason = _REASONS.get(name, f"it uses {name}, which is not known here")
        raise Unsupported(f"the adapter cannot be converted: {reason}")


def _matching(pattern: Mapping[str, Number], module: str, default: Number) -> Number:
    """PEFT's rule: the first key that matches the whole name or its end after a dot."""
    for key, value in pattern.items():
        if len(key) > 256 or re.search(r"[*+}]\)*[*+{]", key):
            raise BadWeights(f"the pattern {key[:64]!r} is too intricate for a module's name")
        try:
            found = re.match(rf"(?:.*\.)?(?:{key})$", module)
        except re.error as error:
            raise BadWeights(f"the pattern {key!r} is no regular expression: {error}") from error
        if found:
            return value
    return default


def read_tensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Every tensor of a safetensors file, by name. Raises BadWeights, Unsupported for a type."""
    from safetensors import SafetensorError, deserialize

    try:
        # The library checks header size, offsets and shapes against the file's length.
        entries: list[tuple[str, Mapping[str, object]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, UnicodeDecodeError) as error:
        raise BadWeights(f"{path} is no safetensors file, or damaged: {error}") from error
    return {name: _floats(name, entry) for name, entry in entries}


def _floats(name: str, entry: Mapping[str, object]) -> npt.NDArray[np.float32]:
    from ollama_ft.weights import dequant

    kind, shape, data = entry["dtype"], entry["shape"], entry["data"]
    assert isinstance(shape, list) and isinstance(data, bytes | bytearray)
    if kind not in ("F32", "F16", "BF16"):
        raise Unsupported(f"the adapter's {name} is of type {kind}; F32, F16 and BF16 are read")
    values = dequant.dequantize(np.frombuffer(data, np.uint8), str(kind)).reshape(shape)
    if not np.isfinite(values).all():
        raise BadWeights(f"the adapter's {name} holds values that are no numbers (NaN or infinite)")
    return values


def _module(key: str) -> tuple[str, str]:
    if "lora_magnitude_vector" in key:
        raise Unsupported(f"the adapter cannot be converted: {_REASONS['use_dora']}")
    if "lora_embedding_" in key:
        raise Unsupported("the adapter cannot be converted: it changes the token embeddings")
    found = _KEY.fullmatch(key)
    if not found:
        raise Unsupported(f"the adapter holds {key!r}, which is no LoRA matrix of a linear layer")
    return _LAYERS.sub("model.", found["module"]), found["side"]


def _pair(module: str, sides: Mapping[str, npt.NDArray[np.float32]], config: PeftConfig) -> Pair:
    if len(sides) != 2:
        raise BadWeights(f"the adapter has only one half of {module}")
    a, b = sides["A"], sides["B"]
    rank = config.rank(module)
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise BadWeights(
            f"the adapter's {module} has the shapes {a.shape} and {b.shape}, which do not fit its "
            f"rank {rank}"
        )
    return Pair(module=module, a=a, b=b, scale=config.scale(module))
