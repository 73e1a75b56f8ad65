"""A training as a whole: what it learns, tells and leaves; killed, stopped and resumed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ollama_ft.core.errors import (
    BadInput,
    Conflict,
    Interrupted,
    NotEnoughData,
    OutOfResources,
    Stopped,
)
from ollama_ft.core.events import Event, Note
from ollama_ft.core.files import digest_file
from ollama_ft.core.recipe import Recipe
from ollama_ft.kinds.trainers import checkpoint, estimate
from ollama_ft.kinds.trainers.job import Estimate, Job, Row, Step, TrainResult, Validation
from ollama_ft.kinds.trainers.lora import finished
from ollama_ft.kinds.trainers.model import target_names
from ollama_ft.kinds.trainers.quiet import quiet
from ollama_ft.kinds.trainers.schedule import make_plan
from ollama_ft.kinds.trainers.warm import begin_from
from ollama_ft.kinds.trainers.watchdog import check_loss, memory_guard
from tests.trainers import CHOICE, adapted_tiny, fit_tiny, job, plain_loss, rows

PINNED = (
    *(5.46735, 4.83152, 4.93038, 3.46545, 2.86826, 3.76485),
    *(2.54260, 1.46659, 2.49033, 1.34792, 0.81026, 1.66370),
)
ROOT = Path(__file__).parent.parent


def told(some: Job) -> tuple[TrainResult, list[Event]]:
    events: list[Event] = []
    return fit_tiny(some, events.append), events


def test_the_loss_curve_is_the_one_that_was_pinned(tmp_path: Path) -> None:
    result = fit_tiny(job(tmp_path / "a"))
    # Seed 0, 12 rows, batches of 4, fp32 on one thread: another curve is another arithmetic.
    assert result.train_losses == pytest.approx(PINNED, rel=2e-3)


def test_a_warm_start_begins_with_the_weights_of_an_earlier_adapter(tmp_path: Path) -> None:
    result = fit_tiny(job(tmp_path / "a"))
    fresh, warm = adapted_tiny(), adapted_tiny()
    begin_from(warm, result.folder)
    assert plain_loss(warm, rows()) < plain_loss(fresh, rows()) - 0.5
    with pytest.raises(BadInput, match="Rank and target modules"):
        begin_from(adapted_tiny(recipe=Recipe(rank=2)), result.folder)


def test_it_learns_and_tells_what_it_does(tmp_path: Path) -> None:
    result, events = told(job(tmp_path / "a"))
    kinds = [type(event) for event in events]
    assert kinds[0] is Estimate and kinds.count(Step) == 12 and kinds.count(Validation) == 4
    reckoned = next(e for e in events if isinstance(e, Estimate))
    assert reckoned.steps == 12 and reckoned.seconds > 0 and reckoned.peak_bytes > 1e7
    assert reckoned.tokens == pytest.approx(result.tokens, rel=0.02)
    steps = [e for e in events if isinstance(e, Step)]
    assert [e.step for e in steps] == list(range(1, 13)) and steps[-1].epoch == 4.0
    assert steps[-1].eta_seconds == 0 and steps[0].tokens_per_second > 0
    assert steps[-1].loss < steps[0].loss / 1.3
    assert result.train_losses == tuple(e.loss for e in steps)
    assert result.valid_losses == tuple(
        (e.step, e.loss) for e in events if isinstance(e, Validation)
    )


def test_the_plan_before_it_starts_is_the_whole_of_it(tmp_path: Path) -> None:
    plan = make_plan(job(tmp_path, warmup_ratio=0.25))
    rates = [plan.learning_rate(step) for step in range(plan.steps)]
    assert rates[:3] == pytest.approx([0.02 / 3, 0.04 / 3, 0.02])
    assert rates[3] == 0.02 and rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert [s for s in range(1, 13) if plan.validates_after(s)] == [3, 6, 9, 12]
    assert not make_plan(job(tmp_path, valid=())).validates_after(12)


def test_known_rows_make_passes_shorter_and_are_part_of_a_job_s_identity(tmp_path: Path) -> None:
    plain = job(tmp_path)
    some = replace(plain, known=tuple(range(2, 12)))
    plan = make_plan(some)
    assert (make_plan(plain).steps, plan.steps, plan.per_epoch) == (12, 4, 1)
    for step in range(4):
        assert {plain.train[0], plain.train[1]} < set(plan.batch(step))
    assert plan.epoch(4) == 4.0
    assert some.identity != plain.identity


def test_a_row_has_its_stand_in_in_the_pass_that_names_one_and_in_no_other(tmp_path: Path) -> None:
    plain = job(tmp_path)
    other = Row(prompt=(5, 6, 7), answer=(8,))
    some = replace(plain, asked=({}, {3: other}))
    planned = make_plan(plain), make_plan(some)
    a_pass = planned[0].steps // 4
    for number in range(4):
        steps = range(number * a_pass, (number + 1) * a_pass)
        was, now = ([row for step in steps for row in plan.batch(step)] for plan in planned)
        swapped = [other if row == plain.train[3] and number == 1 else row for row in was]
        assert now == swapped
    assert some.identity != plain.identity


def test_the_adapter_is_peft_s_and_says_what_the_trainer_computed(tmp_path: Path) -> None:
    from peft import PeftModel

    result = fit_tiny(job(tmp_path / "a"))
    base = adapted_tiny().unload()
    with quiet():
        model = PeftModel.from_pretrained(base, str(result.folder)).eval()
    valid = rows(6, seed=1)
    loss = plain_loss(model, valid).item() / sum(len(row.answer) for row in valid)
    best = dict(result.valid_losses)[result.best_step]
    assert loss == pytest.approx(best, rel=1e-5) == min(x for _, x in result.valid_losses)
    config = json.loads((result.folder / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["r"] == 4 and config["inference_mode"] and config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == "tiny"
    assert str(tmp_path) not in json.dumps(config)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    first, second = fit_tiny(job(tmp_path / "a")), fit_tiny(job(tmp_path / "b"))
    assert first.digest == second.digest == digest_file(second.folder / "adapter_model.safetensors")
    config = "adapter_config.json"
    assert (first.folder / config).read_bytes() == (second.folder / config).read_bytes()
    assert fit_tiny(job(tmp_path / "c", seed=1)).digest != first.digest
    assert fit_tiny(job(tmp_path / "d", dropout=0.1)).digest != first.digest


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_interrupted_and_resumed_is_the_same_as_never_interrupted(
    tmp_path: Path, dropout: float
) -> None:
    whole = fit_tiny(job(tmp_path / "whole", dropout=dropout, epochs=6))
    broken = job(tmp_path / "broken", dropout=dropout, epochs=6)

    def press(event: Event) -> None:
        if isinstance(event, Step) and event.step in (2, 7, 11):
            os.kill(os.getpid(), signal.SIGINT)

    for _ in range(3):
        with pytest.raises(Interrupted, match="checkpoint is kept") as caught:
            fit_tiny(broken, press)
        assert caught.value.mend == "ollama-ft resume"
    result, events = told(broken)
    assert any(isinstance(e, Note) and "after step 11" in e.text for e in events)
    assert result.digest == whole.digest
    assert result.train_losses == whole.train_losses
    assert result.valid_losses == whole.valid_losses
    assert not (broken.folder / checkpoint.NAME).exists()


def test_killed_and_resumed_is_the_same_as_never_killed(tmp_path: Path) -> None:
    whole = fit_tiny(job(tmp_path / "whole"))
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from ollama_ft.kinds.trainers.job import Step
        from tests.trainers import fit_tiny, job
        at = int(sys.argv[2])
        def watch(event):
            if isinstance(event, Step) and event.step == at:
                os.kill(os.getpid(), signal.SIGKILL)
        print(fit_tiny(job(Path(sys.argv[1]), checkpoint_steps=2), watch).digest)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    for at in ("5", "8"):  # in the middle between two checkpoints, and right before one
        assert subprocess.run([*command, at], cwd=ROOT, check=False).returncode == -signal.SIGKILL
        assert (tmp_path / "killed" / checkpoint.NAME).exists()
    done = subprocess.run([*command, "0"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == whole.digest


def test_a_finished_training_is_read_back_not_repeated(tmp_path: Path) -> None:
    some = job(tmp_path / "a")
    result = fit_tiny(some)
    assert finished(some) == result
    assert finished(job(tmp_path / "a", seed=1)) is None
    (result.folder / "adapter_model.safetensors").write_bytes(b"cut")
    assert finished(some) is None


def test_it_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    valid = tuple(Row(prompt=row.prompt, answer=(50, 51, 52)) for row in rows(6, seed=1))
    some = job(tmp_path / "a", valid=valid, patience=2, epochs=20)
    result = fit_tiny(some)
    losses = dict(result.valid_losses)
    assert result.steps < make_plan(some).steps
    assert losses[result.best_step] == min(losses.values())
    assert [step for step in losses if step > result.best_step] == sorted(losses)[-2:]
    patient = fit_tiny(job(tmp_path / "b", valid=valid, patience=0, epochs=20))
    assert patient.steps == 60


def test_without_validation_rows_the_last_step_is_kept(tmp_path: Path) -> None:
    result = fit_tiny(job(tmp_path / "a", valid=()))
    assert result.best_step == result.steps == 12 and result.valid_losses == ()


@pytest.mark.parametrize(
    ("factor", "words"), [(float("nan"), "the loss became nan"), (9.0, "the loss rose from")]
)
def test_a_loss_that_explodes_or_is_no_number_stops_it_and_the_best_adapter_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, words: str
) -> None:
    from ollama_ft.kinds.trainers import model

    real, count = model.answer_loss, [0]

    def sick(*arguments: object) -> torch.Tensor:
        count[0] += 1
        return real(*arguments) * (factor if count[0] > 20 else 1.0)

    monkeypatch.setattr(model, "answer_loss", sick)
    some = job(tmp_path / "a", epochs=20, patience=0)
    with pytest.raises(Stopped, match=words) as caught:
        fit_tiny(some)
    assert caught.value.exit_code == 7
    assert caught.value.mend == "ollama-ft train --set learning_rate=0.005"
    assert (some.folder / "best" / "adapter_model.safetensors").is_file()
    assert finished(some) is None


def test_a_bumpy_loss_is_no_explosion() -> None:
    recipe = job(Path("a")).recipe
    check_loss([3.0, 2.0, 1.0, 0.5, 0.2, 0.1, 4.0, 0.1, 0.1, 3.0, 0.2, 0.1], recipe)
    with pytest.raises(Stopped):
        check_loss([3.0, 2.0, 1.0, 1.0, 1.0, 4.0, 5.0, 6.0, 7.0, 8.0], recipe)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_runs_out_has_its_own_exit_code_and_advice(error: Exception) -> None:
    with (
        pytest.raises(OutOfResources, match="batch_size") as caught,
        memory_guard(job(Path("a")).recipe),
    ):
        raise error
    assert caught.value.exit_code == 6
    assert caught.value.mend == "ollama-ft train --set batch_size=2"
    with pytest.raises(RuntimeError, match="another"), memory_guard(job(Path("a")).recipe):
        raise RuntimeError("another")


def test_too_little_memory_or_disk_is_told_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "free available")
    with monkeypatch.context() as patch:
        patch.setattr(estimate.shutil, "disk_usage", lambda _: usage(1000, 0))
        with pytest.raises(OutOfResources, match="of disk"):
            fit_tiny(job(tmp_path / "a"))
    monkeypatch.setattr(estimate.psutil, "virtual_memory", lambda: usage(0, -(1 << 40)))
    events: list[Event] = []
    with pytest.raises(OutOfResources, match="of memory"):
        fit_tiny(job(tmp_path / "b"), events.append)
    assert events == []


def test_targets_that_the_base_does_not_have_are_refused() -> None:
    base = adapted_tiny().unload()
    assert target_names(base, "all-linear") == [
        *("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    ]
    assert target_names(base, ("v_proj", "q_proj")) == ["q_proj", "v_proj"]
    with pytest.raises(BadInput, match="Did you mean 'q_proj'"):
        target_names(base, ("v_proj", "q_prj"))
    with pytest.raises(BadInput, match="lm_head"):
        target_names(base, ("lm_head",))


def test_only_the_wanted_layers_get_an_adapter(tmp_path: Path) -> None:
    from safetensors import safe_open

    result = fit_tiny(job(tmp_path / "a", target_modules=("q_proj", "up_proj"), epochs=1))
    with safe_open(result.folder / "adapter_model.safetensors", framework="pt") as file:
        leaves = {name.split(".")[-3] for name in file.keys()}  # noqa: SIM118
    assert leaves == {"q_proj", "up_proj"}


def test_another_job_s_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    def press(event: Event) -> None:
        if isinstance(event, Step):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        fit_tiny(job(tmp_path / "a"), press)
    with pytest.raises(Conflict, match="another training"):
        checkpoint.peek(job(tmp_path / "a", seed=1))
    progress = checkpoint.peek(job(tmp_path / "a"))
    assert progress is not None and progress.step == 1 and progress.choice == CHOICE


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / checkpoint.NAME).write_bytes(content)
    with pytest.raises(BadInput, match="is damaged") as caught:
        checkpoint.peek(job(tmp_path))
    assert caught.value.mend.startswith("rm ")


def test_rows_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData):
        job(tmp_path, train=())
    with pytest.raises(BadInput, match="no answer"):
        job(tmp_path, train=(Row(prompt=(1, 2), answer=()),))
    with pytest.raises(BadInput, match="max_length"):
        job(tmp_path, train=(Row(prompt=(1,) * 16, answer=(2,)),), max_length=16)


def test_fp16_gradients_are_scaled_and_the_loss_still_falls(tmp_path: Path) -> None:
    half = replace(CHOICE, dtype="fp16")
    result = fit_tiny(job(tmp_path / "a"), choice=half)
    assert result.train_losses[-1] < result.train_losses[0] / 1.3
