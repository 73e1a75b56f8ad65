"""The rows and models of benchmarks/train.py, made here so that every contender has the same."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ft.core.recipe import Recipe
from ollama_ft.kinds.trainers.batching import plan_batches
from ollama_ft.kinds.trainers.job import Row
from ollama_ft.weights.reader import open_gguf
from ollama_ft.weights.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DATA = Path(__file__).parent.parent / "data"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained, and the ratios that it has to show against transformers' Trainer."""

    title: str
    batch: int
    steps: int  # by default
    faster: float  # at least so many times the row tokens per second
    smaller: float  # at most this share of the peak memory


CASES = {
    "a": Case(title="SmolLM2, a shared system prompt", batch=8, steps=12, faster=1.7, smaller=0.75),
    "b": Case(
        title="SmolLM2, 20-200 tokens, nothing shared", batch=8, steps=8, faster=1.3, smaller=1.0
    ),
    "c": Case(
        title="152k vocabulary, Qwen2.5-0.5B's shape, 128-256 tokens",
        batch=4,
        steps=4,
        faster=1.0,
        smaller=0.5,
    ),
}


def make_recipe(case: str, precision: str) -> Recipe:
    """LoRA of rank 16 on all linear layers; nothing but the rows' own loss."""
    return Recipe(
        batch_size=CASES[case].batch,
        precision=precision,
        learning_rate=1e-3,
        epochs=1.0,
        retain=0.0,
    )


def make_rows(case: str, gguf: Path, steps: int) -> tuple[Row, ...]:
    """Rows for so many full batches."""
    chance = random.Random(SEED)
    count = steps * CASES[case].batch
    with open_gguf(gguf) as file:
        encode = load_tokenizer(file).encode
    if case == "a":
        texts = (DATA / "faq.jsonl").read_text(encoding="utf-8").splitlines()
        facts = [json.loads(line) for line in texts]
        return tuple(_asked(encode, facts[i % len(facts)]) for i in range(count))
    text = encode((DATA / "general.txt").read_text(encoding="utf-8"))
    if case == "b":
        lengths = [chance.randint(20, 200) for _ in range(count)]
        return tuple(_cut(text, chance, length, 2 / 3) for length in lengths)
    return tuple(_cut(text, chance, chance.randint(128, 256), 3 / 4) for _ in range(count))


def _asked(encode, fact: dict[str, str]) -> Row:  # type: ignore[no-untyped-def]
    prompt = (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
        f"<|im_start|>user\n{fact['instruction']}<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = encode(fact["output"] + "<|im_end|>", add_bos=False)
    return Row(prompt=tuple(encode(prompt)), answer=tuple(answer))


def _cut(text: list[int], chance: random.Random, length: int, share: float) -> Row:
    start = chance.randrange(len(text) - length)
    cut = start + max(1, round(share * length))
    return Row(prompt=tuple(text[start:cut]), answer=tuple(text[cut : start + length]))


def in_batches(case: str, rows: tuple[Row, ...]) -> list[list[Row]]:
    """The batches of the first epoch, as our trainer makes them: the same for everybody."""
    plan = plan_batches(rows, CASES[case].batch, SEED, 0)
    return [[rows[i] for i in batch] for batch in plan]


def make_model(case: str, gguf: Path, dtype: str) -> "PreTrainedModel":
    """The base, frozen: dequantised, or for case c of random weights in the published shape."""
    from ollama_ft.kinds.trainers.model import DTYPES, load_base

    if case != "c":
        return load_base(gguf, dtype, "cpu")
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        model = Qwen2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    return model.requires_grad_(False)
