"""One contender of benchmarks/train.py, in a process of its own; prints its figures as JSON.

    python -m benchmarks.train_runs ours|trainer|shuffled CASE GGUF STEPS THREADS PRECISION

`trainer` gets our batches in our order, so that the losses can be compared; `shuffled` is
transformers' Trainer as it comes, with its own random batches.
"""

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

START = time.perf_counter()


@dataclass(kw_only=True)
class Figures:
    """What one contender took."""

    losses: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    step_cpu_seconds: list[float] = field(default_factory=list)
    step_tokens: list[int] = field(default_factory=list)  # of the rows, without padding
    flops: list[float] = field(default_factory=list)  # that were really computed, a step
    peak_bytes: int = 0
    whole_seconds: float = 0.0
    dtype: str = "fp32"
    packed: bool = False


def main() -> None:
    name, case, gguf, steps, threads, precision = sys.argv[1:]
    import torch

    torch.set_num_threads(int(threads))
    run = {"ours": run_ours, "trainer": run_trainer, "shuffled": run_trainer}[name]
    figures = run(name, case, Path(gguf), int(steps), int(threads), precision)
    from ollama_ft.kinds.trainers.estimate import peak_rss_bytes

    figures.peak_bytes = peak_rss_bytes()
    figures.whole_seconds = time.perf_counter() - START
    print(json.dumps(asdict(figures)))


def run_ours(name: str, case: str, gguf: Path, steps: int, threads: int, precision: str) -> Figures:
    from benchmarks.train_cases import SEED, in_batches, make_model, make_recipe, make_rows
    from ollama_ft.kinds.trainers.checkpoint import Progress
    from ollama_ft.kinds.trainers.job import Job, Step
    from ollama_ft.kinds.trainers.lora import fit
    from ollama_ft.kinds.trainers.machine import choose, computing, give_back_memory, measured
    from ollama_ft.kinds.trainers.model import Scorer, adapt
    from ollama_ft.kinds.trainers.quiet import quiet

    recipe, rows = make_recipe(case, precision), make_rows(case, gguf, steps)
    figures = Figures(packed=True)
    clock = [0.0]
    with quiet(), tempfile.TemporaryDirectory() as folder:
        machine = measured("cpu", Path(folder) / "machine.json")
        choice = choose(machine, precision, 0, 1)
        choice = type(choice)(**{**asdict(choice), "threads": threads})
        figures.dtype = choice.dtype
        job = Job(
            base=gguf, train=rows, valid=(), recipe=recipe, seed=SEED, folder=Path(folder) / "run"
        )

        def watch(event: object) -> None:
            now = time.process_time()
            if isinstance(event, Step):
                figures.losses.append(event.loss)
                tokens = sum(map(len, batches[event.step - 1]))
                figures.step_tokens.append(tokens)
                figures.step_seconds.append(tokens / event.tokens_per_second)
                figures.step_cpu_seconds.append(now - clock[0])
            clock[0] = now

        with computing(choice):
            base = make_model(case, gguf, choice.dtype)
            batches = in_batches(case, rows)
            scorer = Scorer(adapt(base, recipe, SEED, "bench"), rows)
            figures.packed = scorer.packed
            give_back_memory()
            fit(scorer, job, Progress(choice=choice), watch)
            for batch in batches:
                made = scorer.batch(batch)
                figures.flops.append(_flops(scorer.causal, made.ids.numel(), len(made.asks)))
    return figures


def run_trainer(
    name: str, case: str, gguf: Path, steps: int, threads: int, precision: str
) -> Figures:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from benchmarks.train_cases import CASES, SEED, in_batches, make_model, make_recipe, make_rows
    from ollama_ft.kinds.trainers.job import Job
    from ollama_ft.kinds.trainers.model import adapt
    from ollama_ft.kinds.trainers.schedule import make_plan

    recipe, rows = make_recipe(case, "fp32"), make_rows(case, gguf, steps)
    figures = Figures()
    batches = in_batches(case, rows)
    items = [_labelled(row) for batch in batches for row in batch]
    base = make_model(case, gguf, "fp32")
    base.config._attn_implementation = "sdpa"
    adapted = adapt(base, recipe, SEED, "bench")
    plan = make_plan(Job(base=gguf, train=rows, valid=(), recipe=recipe, seed=SEED, folder=gguf))
    optimizer = torch.optim.AdamW(
        [p for p in adapted.parameters() if p.requires_grad],
        lr=recipe.learning_rate,
        weight_decay=0,
    )
    peak = recipe.learning_rate
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: plan.learning_rate(min(step, plan.steps - 1)) / peak
    )

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            figures.step_seconds.append(time.perf_counter() - self.start[0])
            figures.step_cpu_seconds.append(time.process_time() - self.start[1])

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                figures.losses.append(float(logs["loss"]))

    def collate(some: list[dict[str, list[int]]]) -> dict[str, Any]:
        made = _padded(some)
        figures.step_tokens.append(int(made["attention_mask"].sum()))
        answers = made["labels"].numel()  # it computes the logits of every place
        figures.flops.append(_flops(base, made["input_ids"].numel(), answers))
        return made

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=CASES[case].batch,
            max_steps=steps,
            max_grad_norm=1.0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
            train_sampling_strategy="sequential" if name == "trainer" else "random",
            seed=SEED,
        )
        trainer = Trainer(
            model=adapted,
            args=arguments,
            train_dataset=items,
            data_collator=collate,
            optimizers=(optimizer, schedule),
            callbacks=[Clock()],
        )
        sys.stdout, real = sys.stderr, sys.stdout
        trainer.train()
        sys.stdout = real
    return figures


def _labelled(row: Any) -> dict[str, list[int]]:
    labels = [-100] * len(row.prompt) + list(row.answer)
    return {"input_ids": [*row.prompt, *row.answer], "labels": labels}


def _padded(some: list[dict[str, list[int]]]) -> dict[str, Any]:
    import torch

    longest = max(len(item["input_ids"]) for item in some)

    def filled(key: str, value: int) -> Any:
        return torch.tensor([item[key] + [value] * (longest - len(item[key])) for item in some])

    ids = filled("input_ids", 0)
    mask = torch.tensor(
        [[1] * len(i["input_ids"]) + [0] * (longest - len(i["input_ids"])) for i in some]
    )
    return {"input_ids": ids, "attention_mask": mask, "labels": filled("labels", -100)}


def _flops(model: Any, tokens: int, answers: int, rank: int = 16) -> float:
    """Matrix products of one step: forward, gradient of the input, and the adapters' own.

    A frozen weight of n entries takes 2n a token forward and 2n back; an adapter 2n + 4n.
    Attention's own products are left out: a few percent at these lengths.
    """
    total = 0.0
    head = model.get_output_embeddings()
    for module in model.modules():
        weight = getattr(getattr(module, "base_layer", None), "weight", None)
        if weight is not None:
            total += tokens * (4.0 * weight.numel() + 6.0 * rank * sum(weight.shape))
    return total + answers * 4.0 * head.weight.numel()


if __name__ == "__main__":
    main()
