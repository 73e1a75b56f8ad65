"""One file that holds everything a run needs to go on: written whole, read without pickle.

Tensors: the adapter, AdamW's two moments, the best adapter so far. The rest (step, losses, choices)
is JSON in the file's header. There is no state of a random generator to keep: each step seeds its
own from the job's seed and its number, and the order of the rows is a function of seed and epoch.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ollama_ft.core.errors import BadInput, Conflict
from ollama_ft.core.files import write_bytes
from ollama_ft.kinds.trainers.job import Choice, Job

NAME = "checkpoint.safetensors"
VERSION = 1


@dataclass(kw_only=True)
class Progress:
    """Where a run stands, between two steps."""

    choice: Choice
    step: int = 0  # steps done
    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    loss_scale: dict[str, float] = field(default_factory=dict)  # of fp16
    best: dict[str, Tensor] = field(default_factory=dict)  # the adapter at `best_step`

    @property
    def best_step(self) -> int:
        """The step of the lowest validation loss; without validations the last step."""
        if not self.validations:
            return self.step
        return min(self.validations, key=lambda pair: pair[1])[0]

    @property
    def strikes(self) -> int:
        """Validations since the best one."""
        return sum(step > self.best_step for step, _ in self.validations)


def save(
    job: Job, progress: Progress, weights: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> Path:
    """Write the checkpoint of `job`, in one rename.

    Raises OutOfResources when the disk is full; the checkpoint before is whole then.
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"adapter.{name}": tensor.detach() for name, tensor in weights.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for name, parameter in weights.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
    head = asdict(progress)
    del head["best"]
    meta = {"version": VERSION, "job": job.identity, "progress": head}
    content = to_bytes(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"ollama_ft": json.dumps(meta)},
    )
    return write_bytes(job.folder / NAME, content)


def peek(job: Job) -> Progress | None:
    """Where the checkpoint of `job` stands, without its tensors; None if there is none.

    Raises Conflict if it belongs to another job, and BadInput if it is damaged.
    """
    path = job.folder / NAME
    if not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["ollama_ft"])
        if meta["version"] != VERSION or meta["job"] != job.identity:
            raise Conflict(
                f"{path} belongs to another training: other rows, recipe, seed or base.",
                mend=f"rm {path}",
            )
        return _progress(meta["progress"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged ({error}).", mend=f"rm {path}") from error


def _progress(values: dict[str, Any]) -> Progress:
    values["choice"] = Choice(**values["choice"])
    values["validations"] = [(int(step), float(loss)) for step, loss in values["validations"]]
    return Progress(**values)


def restore(
    job: Job,
    progress: Progress,
    weights: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put the checkpoint's tensors into `weights`, `optimizer` and `progress.best`.

    Raises BadInput if they do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = job.folder / NAME
    try:
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(tensors[f"adapter.{name}"])
                state = {
                    key: tensors[f"optimizer.{key}.{name}"]
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }
                if state:
                    step = state.pop("step")  # AdamW wants its count where the moments are, or not
                    moved = {key: value.to(parameter.device) for key, value in state.items()}
                    optimizer.state[parameter] = {"step": step.to(parameter.device), **moved}
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged ({error}).", mend=f"rm {path}") from error
    head = "best."
    progress.best = {k[len(head) :]: t for k, t in tensors.items() if k.startswith(head)}
