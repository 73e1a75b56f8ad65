"""Does an adapter fit its base? llama.cpp asks the same when it loads one, but answers in its log
only."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.runtime.embedded.facts import Facts, read_facts
from ollama_ft.weights.reader import TensorInfo

_PAIR = (".lora_a", ".lora_b")
_PASSED_OVER = "_norm.weight"  # llama.cpp skips these without a word
_EMBEDDING = "token_embd.weight"


@lru_cache(maxsize=1024)
def misfit(adapter: Path, base: Path) -> str:
    """Why llama.cpp would refuse the adapter on this base, in words; "" if it fits. Both are blobs,
    whose content never changes."""
    try:
        lora, model = read_facts(adapter), read_facts(base)
    except (BadInput, NotFound) as error:
        return str(error)
    if lora.kind != "adapter" or lora.info.get("adapter.type") != "lora":
        return "the file is no LoRA adapter"
    if lora.architecture != model.architecture:
        return f"the adapter is for {lora.architecture}, the base is {model.architecture}"
    return _unfit_tensor(lora, model)


def _unfit_tensor(lora: Facts, model: Facts) -> str:
    targets = sorted({name[:-7] for name in lora.tensors if name.endswith(_PAIR)})
    strange = [name for name in lora.tensors if not name.endswith((*_PAIR, _PASSED_OVER))]
    if strange:
        return f"the adapter holds {strange[0]}, which is neither lora_a nor lora_b"
    problems = (_unfit_pair(name, lora.tensors, model.tensors) for name in targets)
    return next((problem for problem in problems if problem), "")


def _unfit_pair(name: str, lora: Mapping[str, TensorInfo], model: Mapping[str, TensorInfo]) -> str:
    a, b = (lora.get(f"{name}{end}") for end in _PAIR)
    if a is None or b is None:
        return f"the adapter has only one half of {name}"
    if name not in model:
        return f"the base has no tensor {name}"
    if min(len(a.shape), len(b.shape), len(model[name].shape)) < 2:
        return f"{name} is no matrix"
    # a: (rank, in), b: (out, rank), weight: (out, in); for the embedding a stands on the
    # vocabulary's side.
    rows, columns = model[name].shape[-2:]
    ends = (a.shape[-2], b.shape[-2]) if name == _EMBEDDING else (b.shape[-2], a.shape[-1])
    if ends != (rows, columns) or (name != _EMBEDDING and a.shape[-2] != b.shape[-1]):
        return f"{name} is {rows}×{columns} in the base, {a.shape} and {b.shape} in the adapter"
    return ""
