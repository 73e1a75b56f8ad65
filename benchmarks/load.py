"""How long a GGUF takes to become a model that can be trained: ours against transformers' own path.

    python -m benchmarks.load              # SmolLM2-135M, about a minute
    python -m benchmarks.load gemma3

Both start from the same file in the same process, ours first, so that it alone pays for what is
imported on the way; CPU-seconds are the fair figure on a shared machine. It fails if ours is not
ten times as fast even so, or a weight differs.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ollama_ft.weights.architectures import load_model
from ollama_ft.weights.reader import open_gguf
from ollama_ft.weights.tokenizer import load_tokenizer
from tests.conftest import MODELS
from tests.models import fetch

LEAST = 10.0
Result = TypeVar("Result")


def main() -> None:
    path = fetch(sys.argv[1] if len(sys.argv) > 1 else "smollm2", MODELS)
    print(f"{path.name}, {path.stat().st_size / 1e6:.0f} MB, {torch.get_num_threads()} threads")
    model, wall, cpu = timed("ours", lambda: ours(path))
    model, *_ = timed("ours, again", lambda: ours(path))
    other, wall_theirs, cpu_theirs = timed("transformers", lambda: theirs(path))
    timed("our tokenizer", lambda: tokenizer(path))
    equal = same_weights(model, other)
    print(f"ratio: {cpu_theirs / cpu:.1f} in CPU-seconds, {wall_theirs / wall:.1f} in wall seconds")
    print(f"weights equal bit for bit: {'yes' if equal else 'NO'}")
    if cpu_theirs / cpu < LEAST or not equal:
        sys.exit(1)


def ours(path: Path) -> PreTrainedModel:
    with open_gguf(path) as gguf:
        return load_model(gguf)


def theirs(path: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )


def tokenizer(path: Path) -> None:
    with open_gguf(path) as gguf:
        load_tokenizer(gguf)


def timed(name: str, work: Callable[[], Result]) -> tuple[Result, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:18} {wall:7.2f} s wall {cpu:7.2f} s CPU")
    return result, wall, cpu


def same_weights(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


if __name__ == "__main__":
    main()
