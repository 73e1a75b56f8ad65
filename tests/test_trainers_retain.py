"""Keeping what the base says on general text while something else is learned."""

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ollama_ft.kinds.trainers.job import Row
from ollama_ft.kinds.trainers.model import Scorer
from ollama_ft.kinds.trainers.retain import Retention
from tests.trainers import adapted_tiny, fit_tiny, job, rows, stir

CHANCE = random.Random(3)
GENERAL = tuple(
    Row(
        prompt=(CHANCE.randrange(10, 60),),
        answer=tuple(CHANCE.randrange(10, 60) for _ in range(23)),
    )
    for _ in range(6)
)


def divergence(scorer: Scorer, retention: Retention) -> float:
    """Mean over all general pieces; 0 where the base's own distributions are."""
    with torch.no_grad():
        return sum(float(retention.loss(scorer, step)) for step in range(3)) / 3


def put(adapted: torch.nn.Module, folder: Path) -> None:
    """Give a fresh adapter the weights of a trained one."""
    trained = load_file(folder / "adapter_model.safetensors")
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(trained[name.replace(".default.weight", ".weight")])


def test_a_fresh_adapter_says_just_what_the_base_says() -> None:
    scorer = Scorer(adapted_tiny(), rows())
    retention = Retention.ask(scorer, GENERAL)
    assert divergence(scorer, retention) == pytest.approx(0, abs=1e-5)


def test_moving_away_from_the_base_costs() -> None:
    adapted = adapted_tiny()
    scorer = Scorer(adapted, rows())
    retention = Retention.ask(scorer, GENERAL)
    before = divergence(scorer, retention)
    stir(adapted)
    assert divergence(scorer, retention) > before + 0.05


def test_a_training_that_retains_stays_nearer_to_the_base(tmp_path: Path) -> None:
    kept = {}
    for retain in (0.0, 3.0):
        some = job(tmp_path / str(retain), general=GENERAL, retain=retain, epochs=20, patience=0)
        result = fit_tiny(some)
        assert result.train_losses[-1] < result.train_losses[0]
        adapted = adapted_tiny(recipe=some.recipe)
        scorer = Scorer(adapted, rows())
        retention = Retention.ask(scorer, GENERAL)
        put(adapted, result.folder)
        kept[retain] = divergence(scorer, retention)
    assert kept[3.0] < kept[0.0] - 0.05


def test_general_text_is_part_of_what_a_job_is(tmp_path: Path) -> None:
    assert job(tmp_path).identity != job(tmp_path, general=GENERAL).identity
