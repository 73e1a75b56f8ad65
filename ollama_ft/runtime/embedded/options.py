"""Options: what a request and a model may set, Ollama's defaults, and llama.cpp's names."""

from collections.abc import Mapping
from dataclasses import dataclass

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.modelfile import PARAMETERS

DEFAULT_CONTEXT = 4096  # tokens; what Ollama takes where it finds no large accelerator
_GO_TYPES = {int: "integer", float: "float32", bool: "boolean", list: "array"}
# Ollama's option -> llama.cpp's, with Ollama's default (api/types.go, DefaultOptions).
_SAMPLING: Mapping[str, tuple[str, object]] = {
    "temperature": ("temperature", 0.8),
    "top_k": ("top_k", 40),
    "top_p": ("top_p", 0.9),
    "min_p": ("min_p", 0.0),
    "typical_p": ("typical_p", 1.0),
    "repeat_last_n": ("repeat_last_n", 64),
    "repeat_penalty": ("repeat_penalty", 1.0),
    "presence_penalty": ("presence_penalty", 0.0),
    "frequency_penalty": ("frequency_penalty", 0.0),
    "seed": ("seed", -1),
    "num_keep": ("n_keep", 4),
    "stop": ("stop", ()),
}
_INT32 = 2**31 - 1  # what llama.cpp reads
_HUGE = 1e30
_CONTEXTS_AT_MOST = 10  # Ollama ends an unlimited generation after ten contexts


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one request: the model's own, with the request's on top."""

    values: Mapping[str, object]

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        return max(self._whole("num_ctx", DEFAULT_CONTEXT), 4)

    @property
    def predict(self) -> int:
        """Tokens of the answer at most."""
        wanted = self._whole("num_predict", -1)
        return min(wanted if wanted >= 0 else _CONTEXTS_AT_MOST * self.context, _INT32)

    @property
    def keep(self) -> int:
        """Tokens at the start of a prompt that stay when it is cut."""
        return max(self._whole("num_keep", 4), 0)

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken every time."""
        return self.values.get("temperature", 0.8) == 0

    def sampling(self) -> dict[str, object]:
        """The fields of llama.cpp's /completion that say how to sample."""
        return {
            theirs: self.values.get(ours, default) for ours, (theirs, default) in _SAMPLING.items()
        }

    def _whole(self, name: str, default: int) -> int:
        value = self.values.get(name, default)
        assert isinstance(value, int)  # `merged` has seen to it
        return value


def merged(*layers: Mapping[str, object]) -> Options:
    """Options from weakest to strongest. Unknown names are passed over, as in Ollama; null counts
    as absent.

    Raises RuntimeRefused, with Ollama's words, for a value of another type.
    """
    values: dict[str, object] = {}
    for layer in layers:
        for name, value in layer.items():
            if name in PARAMETERS and value is not None:
                values[name] = _checked(name, value)
    return Options(values=values)


def _checked(name: str, value: object) -> object:
    kind = PARAMETERS[name]
    if kind is list and isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return value
        raise RuntimeRefused(f'option "{name}" must be of an array of strings', status=500)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (int, float) and is_number:
        assert isinstance(value, int | float)
        return _within(name, value) if kind is int else float(min(max(value, -_HUGE), _HUGE))
    if kind is bool and isinstance(value, bool):
        return value
    raise RuntimeRefused(f'option "{name}" must be of type {_GO_TYPES[kind]}', status=500)


def _within(name: str, value: float) -> int:
    if name == "seed":
        return int(min(value, 2.0**64)) & 0xFFFFFFFF if value >= 0 else -1
    return int(min(max(value, -_INT32), _INT32))
