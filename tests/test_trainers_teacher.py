"""Learning to say without the passages what the base says with them."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ollama_ft.core.errors import Interrupted
from ollama_ft.kinds.trainers.job import Job, Row, Step
from ollama_ft.kinds.trainers.model import Scorer
from ollama_ft.kinds.trainers.teacher import Teacher, base_states, teacher_file
from tests.trainers import adapted_tiny, fit_tiny, job, rows, stir

CHANCE = random.Random(7)


def told(row: Row) -> Row:
    """The row with a prompt for the teacher that begins with a passage."""
    passage = tuple(CHANCE.randrange(10, 60) for _ in range(15))
    return replace(row, teacher=(*passage, *row.prompt))


TAUGHT = tuple(told(row) if i % 3 else row for i, row in enumerate(rows()))


def logprobs(scorer: Scorer, prompt: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
    """All that the model says at the places of `answer`, (answer, vocabulary)."""
    with torch.no_grad():
        states = scorer.states(scorer.batch([Row(prompt=prompt, answer=answer)]))
        return torch.log_softmax(scorer.head(states).float(), -1)


def divergence(scorer: Scorer, some: Job) -> float:
    """Mean divergence of what is said without the passage from what the base says with it."""
    total = places = 0.0
    for row in (row for row in some.train if row.teacher):
        with scorer.bare():
            theirs = logprobs(scorer, row.teacher, row.answer)
        ours = logprobs(scorer, row.prompt, row.answer)
        total += float((theirs.exp() * (theirs - ours)).sum())
        places += len(row.answer)
    return total / places


def test_the_teacher_is_the_bare_base_whatever_the_adapter_has_learned() -> None:
    adapted = adapted_tiny()
    scorer = Scorer(adapted, rows())
    fresh = torch.cat(list(base_states(scorer, rows())))
    stir(adapted)
    assert torch.equal(torch.cat(list(base_states(scorer, rows()))), fresh)
    with torch.no_grad():
        assert not torch.equal(scorer.states(scorer.batch(rows()))[: len(fresh)], fresh)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_loss_is_the_two_parts_by_their_shares(tmp_path: Path, share: float) -> None:
    adapted = adapted_tiny()
    stir(adapted)
    scorer = Scorer(adapted, rows())
    teacher = Teacher.ask(scorer, job(tmp_path, train=TAUGHT, distill=share))
    assert teacher is not None
    wanted = 0.0
    for row in TAUGHT[:5]:
        ours = logprobs(scorer, row.prompt, row.answer)
        plain = -float(ours.gather(1, torch.tensor(row.answer)[:, None]).sum())
        if not row.teacher:
            wanted += plain
            continue
        with scorer.bare():
            theirs = logprobs(scorer, row.teacher, row.answer)
        wanted += (1 - share) * plain + share * float((theirs.exp() * (theirs - ours)).sum())
    with torch.no_grad():
        found = scorer(scorer.batch(TAUGHT[:5]), teacher.said(TAUGHT[:5]))
    assert float(found) == pytest.approx(wanted, rel=1e-4)


def test_a_distilled_model_comes_nearer_to_the_teacher_than_one_that_learned_the_answers(
    tmp_path: Path,
) -> None:
    near = {}
    for share in (0.0, 1.0):
        some = job(tmp_path / str(share), train=TAUGHT, distill=share, epochs=20, valid=())
        seen = fit_and_keep(some)
        near[share] = divergence(seen, some)
    assert near[1.0] < 0.5 * near[0.0]


def fit_and_keep(some: Job) -> Scorer:
    """The model as `some` leaves it."""
    from safetensors.torch import load_file

    trained = load_file(fit_tiny(some).folder / "adapter_model.safetensors")
    adapted = adapted_tiny(recipe=some.recipe)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(trained[name.replace(".default.weight", ".weight")])
    return Scorer(adapted, some.train)


def test_a_resumed_run_reads_what_the_teacher_said_and_ends_with_the_same_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit_tiny(job(tmp_path / "whole", train=TAUGHT, distill=0.5))
    some = job(tmp_path / "killed", train=TAUGHT, distill=0.5)

    def stop(event: object) -> None:
        if isinstance(event, Step) and event.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        fit_tiny(some, stop)
    file = teacher_file(some, Scorer(adapted_tiny(), some.train))
    assert file.is_file()
    # Whoever asked again would ask a teacher that says something else.
    monkeypatch.setattr("ollama_ft.kinds.trainers.teacher.base_states", lambda scorer, rows: 1 / 0)
    assert fit_tiny(some).digest == whole.digest
    assert not file.exists()


def test_what_the_teacher_is_shown_is_part_of_what_a_job_is(tmp_path: Path) -> None:
    assert job(tmp_path).identity != job(tmp_path, train=TAUGHT).identity


def test_without_a_share_nobody_is_asked(tmp_path: Path) -> None:
    some = job(tmp_path, train=TAUGHT, distill=0.0)
    assert Teacher.ask(Scorer(adapted_tiny(), rows()), some) is None
    assert not any(tmp_path.iterdir())
