"""Jobs for the trainers' tests: rows that share a beginning, tiny models, trainers around them."""

import random
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ollama_ft.core.events import Event
from ollama_ft.core.recipe import Recipe
from ollama_ft.kinds.trainers.checkpoint import Progress
from ollama_ft.kinds.trainers.job import Choice, Job, OnEvent, Row, TrainResult
from ollama_ft.kinds.trainers.lora import fit
from ollama_ft.kinds.trainers.machine import computing
from ollama_ft.kinds.trainers.model import Scorer, adapt
from tests.tiny import tiny_model

KEYS = set(Recipe.model_fields) - {"base"}
CHOICE = Choice(device="cpu", dtype="fp32", kernel="default", threads=1)


def rows(count: int = 12, shared: int = 9, seed: int = 0) -> tuple[Row, ...]:
    """Random rows of mixed length: `shared` tokens that all begin with, then a rule to be learnt."""
    chance = random.Random(seed)
    system = tuple(chance.randrange(10, 60) for _ in range(shared))
    made = []
    for _ in range(count):
        question = tuple(chance.randrange(10, 60) for _ in range(chance.randint(2, 12)))
        answer = tuple((token + 1) % 60 for token in question[: chance.randint(1, 6)])
        made.append(Row(prompt=(*system, *question), answer=(*answer, 1)))
    return tuple(made)


def job(folder: Path, **changes: Any) -> Job:
    """A job for `fit_tiny`; recipe keys may be given among the changes."""
    keys = {key: changes.pop(key) for key in list(changes) if key in KEYS}
    recipe = Recipe(**{"rank": 4, "batch_size": 4, "epochs": 4.0, "learning_rate": 0.02, **keys})
    settings = {
        "base": Path("tiny.gguf"),
        "train": rows(),
        "valid": rows(6, seed=1),
        "recipe": recipe,
        "seed": recipe.seed,
        "folder": folder,
    }
    return Job(**{**settings, **changes})


def adapted_tiny(kind: str = "llama", recipe: Recipe | None = None, **changes: object) -> nn.Module:
    """A tiny random base of that kind with a fresh adapter on it."""
    fields: dict[str, object] = {"vocab_size": 64, "initializer_range": 0.2, **changes}
    fields |= {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 1}
    model = tiny_model(kind, **fields)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return adapt(model, recipe or Recipe(rank=4), 0, "tiny")


def stir(adapted: nn.Module, seed: int = 5) -> None:
    """Give B random values too: a fresh adapter changes nothing, and hides every mistake."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0.0, 0.2, generator=generator)


def plain_loss(adapted: nn.Module, some: tuple[Row, ...]) -> Tensor:
    """The truth: transformers and PEFT as they are, padded, all logits, answers picked by labels."""
    longest = max(map(len, some))
    ids = torch.ones(len(some), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(some):
        ids[i, : len(row)] = torch.tensor(row.prompt + row.answer)
        mask[i, : len(row)] = 1
        labels[i, len(row.prompt) : len(row)] = torch.tensor(row.answer)
    logits = cast(Any, adapted)(input_ids=ids, attention_mask=mask).logits[:, :-1]
    flat = labels[:, 1:].flatten()
    return nn.functional.cross_entropy(logits.flatten(0, 1), flat, reduction="sum")


def gradients(loss: Tensor, adapted: nn.Module) -> dict[str, Tensor]:
    """The gradients of the adapter's parameters, by name."""
    names, parameters = zip(
        *((n, p) for n, p in adapted.named_parameters() if p.requires_grad), strict=True
    )
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def fit_tiny(
    job: Job, on_event: OnEvent | None = None, choice: Choice = CHOICE, kind: str = "llama"
) -> TrainResult:
    """`train` of the tiny model: what lora.train does once the base is loaded."""
    from ollama_ft.kinds.trainers import checkpoint

    events: list[Event] = []
    with computing(choice):
        scorer = Scorer(adapted_tiny(kind, job.recipe), job.train)
        progress = checkpoint.peek(job) or Progress(choice=choice)
        return fit(scorer, job, progress, on_event or events.append)
