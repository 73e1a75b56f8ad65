"""LoRA training: a job in, an adapter in PEFT's format out.

    train      choose how to compute, load the base, put the adapter on, fit
    fit        the loop: step, validate, checkpoint, stop early
    Run        what the loop works with

The loop is written on accelerate: one CPU, one GPU, or `accelerate launch` on many. Everything a
step does is a function of the job and the step's number, so a run that was killed and resumed
leaves the same bits as one that was not.
"""

import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import psutil
import torch
from torch import Tensor, nn

from ollama_ft.core.errors import Interrupted, Stopped
from ollama_ft.core.events import Note, silent
from ollama_ft.core.files import digest_file, write_bytes
from ollama_ft.kinds.trainers import checkpoint
from ollama_ft.kinds.trainers.batching import in_order
from ollama_ft.kinds.trainers.checkpoint import Progress
from ollama_ft.kinds.trainers.estimate import VALID_BATCH, estimate, peak_rss_bytes
from ollama_ft.kinds.trainers.interrupt import StopSign, stop_sign
from ollama_ft.kinds.trainers.job import Choice, Job, OnEvent, Row, Step, TrainResult, Validation
from ollama_ft.kinds.trainers.machine import (
    choose,
    computing,
    find_device,
    give_back_memory,
    measured,
)
from ollama_ft.kinds.trainers.model import (
    Said,
    Scorer,
    adapt,
    adapter_parameters,
    load_base,
    save_adapter,
)
from ollama_ft.kinds.trainers.quiet import quiet
from ollama_ft.kinds.trainers.retain import PIECES, Retention
from ollama_ft.kinds.trainers.schedule import Plan, make_plan
from ollama_ft.kinds.trainers.teacher import Teacher, teacher_file, teachers_rows
from ollama_ft.kinds.trainers.warm import begin_from
from ollama_ft.kinds.trainers.watchdog import check_gradient, check_loss, memory_guard

CLIP = 1.0  # largest norm of the gradient; what transformers and torch's recipes use
SOFTWARE = ("torch", "transformers", "peft", "accelerate", "safetensors")
RESULT = "result.json"


def train(job: Job, on_event: OnEvent = silent) -> TrainResult:
    """Train the adapter of `job`, or go on where its folder stands; a finished one is read back.

    Raises BadInput for targets the base does not have, Stopped when the loss explodes,
    OutOfResources for memory and disk, Interrupted on Ctrl-C. The folder then holds the checkpoint
    to go on from and, after the first validation, the best adapter in best/.
    """
    if (done := finished(job)) is not None:
        return done
    with quiet(), memory_guard(job.recipe):
        progress = checkpoint.peek(job) or Progress(choice=_choice(job))
        choice = progress.choice
        with computing(choice):
            base = load_base(job.base, choice.dtype, choice.device)
            name = job.base_digest or job.base.name
            adapted = adapt(base, job.recipe, job.seed, name)
            if job.start:
                begin_from(adapted, job.start)
            scorer = Scorer(adapted, job.train)
            give_back_memory()
            return fit(scorer, job, progress, on_event)


def finished(job: Job) -> TrainResult | None:
    """The result of `job` if its folder holds one, whole and of this very job."""
    folder = job.folder / "adapter"
    try:
        text = (job.folder / RESULT).read_text()
        result = TrainResult.from_json(text, folder)
        whole = result.digest == digest_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return result if whole and result.job == job.identity else None


def _choice(job: Job) -> Choice:
    from ollama_ft.weights.reader import open_gguf

    file = job.machine_file or job.folder.parent / "machine.json"
    machine = measured(find_device(job.device), file)
    with open_gguf(job.base) as gguf:
        weights = sum(_count(info.shape) for info in gguf.tensors.values())
    return choose(machine, job.recipe.precision, weights, psutil.virtual_memory().total)


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def fit(scorer: Scorer, job: Job, progress: Progress, on_event: OnEvent) -> TrainResult:
    """Train `scorer`'s adapter from where `progress` stands; raises and returns as `train` does."""
    if scorer.why_padded:
        on_event(Note(text=f"Training the slower plain way: {scorer.why_padded}."))
    if teachers_rows(job):
        on_event(Note(text="Asking the base with the passages in its prompt."))
    if job.recipe.retain and job.general:
        on_event(Note(text="Asking the base what it says of general text, which shall stay so."))
    run = Run.start(scorer, job, progress, on_event)
    if progress.step:
        checkpoint.restore(job, progress, run.weights, run.optimizer)
        run.scaler.load_state_dict(progress.loss_scale)
        on_event(Note(text=f"Going on after step {progress.step} of {run.plan.steps}."))
    on_event(estimate(scorer, job, run.plan, progress.choice, done=progress.step))
    give_back_memory()
    with stop_sign() as sign:
        try:
            _loop(run, sign)
        except KeyboardInterrupt:
            run.interrupt()
        except Stopped:
            run.keep_best()
            raise
    return _result(run)


def _loop(run: "Run", sign: StopSign) -> None:
    progress, plan, job = run.progress, run.plan, run.job
    saved = time.monotonic()
    while progress.step < plan.steps and not run.worn_out:
        run.step()
        if plan.validates_after(progress.step):
            run.validate()
        due = time.monotonic() - saved >= job.checkpoint_seconds
        if job.checkpoint_steps and progress.step % job.checkpoint_steps == 0:
            due = True
        if sign.up:
            run.interrupt()
        if due:
            run.save()
            saved = time.monotonic()


@dataclass(kw_only=True)
class Run:
    """What the loop works with. Between two steps, `whole` is true and it can be saved."""

    job: Job
    plan: Plan
    scorer: Scorer
    model: nn.Module  # the scorer as accelerate wrapped it
    accelerator: Any
    weights: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # of fp16's gradients; idle otherwise
    progress: Progress
    tell: OnEvent
    retention: Retention | None = None
    teacher: Teacher | None = None
    whole: bool = True

    @classmethod
    def start(cls, scorer: Scorer, job: Job, progress: Progress, tell: OnEvent) -> "Run":
        """Wrap `scorer` for the devices there are, and make the optimizer."""
        from accelerate import Accelerator

        choice, recipe = progress.choice, job.recipe
        accelerator = Accelerator(cpu=choice.device == "cpu", mixed_precision="no")
        weights = adapter_parameters(scorer.adapted)
        plan = make_plan(job)
        general = job.general[: plan.steps * PIECES * accelerator.num_processes]
        if accelerator.is_local_main_process:  # once on every machine
            Teacher.ask(scorer, job)
        accelerator.wait_for_everyone()
        return cls(
            job=job,
            plan=plan,
            scorer=scorer,
            model=cast(nn.Module, accelerator.prepare(scorer)),
            accelerator=accelerator,
            weights=weights,
            optimizer=torch.optim.AdamW(
                weights.values(),
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                fused=True,
            ),
            scaler=torch.amp.GradScaler(choice.device, enabled=choice.dtype == "fp16"),
            progress=progress,
            tell=tell if accelerator.is_main_process else silent,
            retention=Retention.ask(scorer, general) if recipe.retain and general else None,
            teacher=Teacher.ask(scorer, job, write=False),
        )

    @property
    def worn_out(self) -> bool:
        """Whether `patience` validations have brought no gain."""
        patience = self.job.recipe.patience
        return 0 < patience <= self.progress.strikes

    def step(self) -> None:
        """One optimizer step; raises Stopped when there is no good way on."""
        progress, start = self.progress, time.perf_counter()
        rows = self.plan.batch(progress.step)
        rate = self.plan.learning_rate(progress.step)
        loss = self._backward(rows)
        self.whole = False
        norm = self._update(rate)
        progress.step += 1
        progress.losses.append(loss)
        progress.tokens += sum(map(len, rows))
        spent = time.perf_counter() - start
        progress.seconds += spent
        self.whole = True
        self.tell(self._step_event(rows, rate, spent))
        check_loss(progress.losses, self.job.recipe)
        if not self.scaler.is_enabled():
            check_gradient(norm, progress.step, self.job.recipe)

    def _backward(self, rows: list[Row]) -> float:
        # Gradients of the mean over all answer tokens of the batch, also when several processes
        # have a share of it each: DDP averages what they computed, hence the factor.
        share, shares = self.accelerator.process_index, self.accelerator.num_processes
        mine = rows[share::shares]
        factor = shares / sum(len(row.answer) for row in rows)
        # Dropout depends on the seed and the step alone.
        torch.manual_seed(self.job.seed * 1_000_003 + self.progress.step * shares + share)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        some = mine or rows[:1]
        said = self.teacher.said(some) if self.teacher else [Said()]
        total = self.model(self.scorer.batch(some), said) * (factor if mine else 0.0)
        self.accelerator.backward(self.scaler.scale(total))
        if self.retention is not None:
            kept = self.retention.loss(self.model, self.progress.step * shares + share)
            self.accelerator.backward(self.scaler.scale(kept * self.job.recipe.retain))
        return self._summed(total.detach()) / float(shares)

    def _update(self, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norm = self.accelerator.clip_grad_norm_(self.weights.values(), CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return float(norm)

    def _summed(self, value: Tensor) -> float:
        if self.accelerator.num_processes > 1:
            value = self.accelerator.reduce(value, reduction="sum")
        return float(value)

    def _step_event(self, rows: list[Row], rate: float, spent: float) -> Step:
        progress = self.progress
        left = self.plan.steps - progress.step
        return Step(
            step=progress.step,
            steps=self.plan.steps,
            epoch=self.plan.epoch(progress.step),
            loss=progress.losses[-1],
            learning_rate=rate,
            tokens_per_second=sum(map(len, rows)) / spent,
            rss_bytes=psutil.Process().memory_info().rss,
            eta_seconds=left * progress.seconds / progress.step,
        )

    def validate(self) -> None:
        """Score the validation rows; remember the adapter if it never was better."""
        progress, start = self.progress, time.perf_counter()
        loss = self._valid_loss()
        progress.validations.append((progress.step, loss))
        best = progress.best_step == progress.step
        if best:
            progress.best = {name: p.detach().clone() for name, p in self.weights.items()}
        progress.seconds += time.perf_counter() - start
        self.tell(Validation(step=progress.step, loss=loss, best=best))

    def _valid_loss(self) -> float:
        rows = self.job.valid
        share, shares = self.accelerator.process_index, self.accelerator.num_processes
        batches = in_order(rows, VALID_BATCH * self.job.recipe.batch_size)[share::shares]
        self.model.eval()
        total = torch.zeros((), device=self.scorer.device)
        with torch.no_grad():
            for batch in batches:
                total += self.scorer(self.scorer.batch([rows[i] for i in batch]))
        return self._summed(total) / sum(len(row.answer) for row in rows)

    def save(self) -> None:
        """Write the checkpoint."""
        self.progress.loss_scale = self.scaler.state_dict()
        if self.accelerator.is_main_process:
            weights = cast(dict[str, Tensor], self.weights)
            checkpoint.save(self.job, self.progress, weights, self.optimizer)

    def keep_best(self) -> None:
        """Write the best adapter so far, if there is one, in PEFT's format to best/."""
        if self.progress.best and self.accelerator.is_main_process:
            save_adapter(self.scorer.adapted, self.progress.best, self.job.folder / "best")

    def interrupt(self) -> None:
        """Keep what can be kept, and raise Interrupted."""
        if self.whole:
            self.save()
        self.keep_best()
        raise Interrupted(
            f"Interrupted after step {self.progress.step} of {self.plan.steps}; "
            "the checkpoint is kept.",
            mend="ollama-ft resume",
        )


def _result(run: Run) -> TrainResult:
    # The adapter first, the result that names its digest last: only both make it finished.
    progress, job = run.progress, run.job
    folder = job.folder / "adapter"
    weights = progress.best or cast(dict[str, Tensor], run.weights)
    if run.accelerator.is_main_process:
        save_adapter(run.scorer.adapted, weights, folder)
    run.accelerator.wait_for_everyone()
    result = TrainResult(
        folder=folder,
        job=job.identity,
        digest=digest_file(folder / "adapter_model.safetensors"),
        best_step=progress.best_step,
        steps=progress.step,
        train_losses=tuple(progress.losses),
        valid_losses=tuple(progress.validations),
        seconds=progress.seconds,
        tokens=progress.tokens,
        peak_rss_bytes=peak_rss_bytes(),
        choice=progress.choice,
        software={"python": platform.python_version(), **{n: version(n) for n in SOFTWARE}},
    )
    if run.accelerator.is_main_process:
        write_bytes(job.folder / RESULT, result.to_json().encode())
        (job.folder / checkpoint.NAME).unlink(missing_ok=True)
        teacher_file(job, run.scorer).unlink(missing_ok=True)
    return result
