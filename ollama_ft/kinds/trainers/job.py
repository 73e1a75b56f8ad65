"""What a trainer is given, what it tells while it works, and what it leaves. No torch in here."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotEnoughData
from ollama_ft.core.events import Event
from ollama_ft.core.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Row:
    """One conversation as token ids. The loss is taken on `answer` only."""

    prompt: tuple[int, ...]  # rendered by the runtime, up to where the answer begins
    answer: tuple[int, ...]  # ends with the token that ends the turn
    teacher: tuple[int, ...] = ()  # the prompt that tells the base more; empty: nobody teaches it

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A pure job: the same base, rows, recipe and seed on one machine give the same adapter."""

    base: Path  # the GGUF blob
    train: tuple[Row, ...]
    valid: tuple[Row, ...]  # may be empty: then nothing stops early and the last step is kept
    recipe: Recipe
    seed: int
    asked: tuple[Mapping[int, Row], ...] = ()  # by pass: what stands in for a row of `train`
    general: tuple[Row, ...] = ()  # answers that shall stay what the base makes of them
    folder: Path  # the work folder of this job alone: checkpoint, adapter, result
    start: Path | None = None  # the adapter that the recipe's `start` names; None: a fresh one
    known: tuple[int, ...] = ()  # places of rows in `train` that `start` learned: some are replayed
    base_digest: str = ""  # names the base in the adapter's config; taken from the file when empty
    device: str = "auto"  # "auto" | "cpu" | "cuda" | "mps"
    machine_file: Path | None = None  # where probed choices are kept; None: beside `folder`
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None  # also every so many steps
    validate_steps: int | None = None  # None: once an epoch, and at least four times in all

    def __post_init__(self) -> None:
        if not self.train:
            raise NotEnoughData("There is no row to train on.", mend="ollama-ft data check")
        stand_ins = (row for asked in self.asked for row in asked.values())
        for row in (*self.train, *self.valid, *stand_ins):
            if not row.prompt or not row.answer:
                raise BadInput("A row has no prompt or no answer tokens; it cannot be trained on.")
            if len(row) > self.recipe.max_length:
                raise BadInput(
                    f"A row has {len(row)} tokens; the recipe's max_length is "
                    f"{self.recipe.max_length}.",
                    mend=f"ollama-ft train --set max_length={len(row)}",
                )

    @property
    def identity(self) -> str:
        """Digest of everything the adapter depends on, but the machine: guards a resume."""
        rows = [_ids(row) for row in self.train]
        checks = [_ids(row) for row in self.valid]
        parts = {
            "base": self.base_digest or self.base.name,
            "recipe": self.recipe.digest,
            "seed": self.seed,
            "train": rows,
            "asked": [[[i, *_ids(row)] for i, row in asked.items()] for asked in self.asked],
            "valid": checks,
            "general": [_ids(row) for row in self.general],
            "known": self.known,
            "validate_steps": self.validate_steps,
        }
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _ids(row: Row) -> list[tuple[int, ...]]:
    return [row.prompt, row.answer, *([row.teacher] if row.teacher else [])]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How this machine computes: probed once, then kept, because the adapter's bits hang on it."""

    device: str  # "cpu" | "cuda" | "mps"
    dtype: str  # of the frozen base: "fp32" | "bf16" | "fp16" | "nf4"
    kernel: str  # matrix products in fp32: "default" | "onednn"
    threads: int
    gemm_flops: float = 0.0  # of matrix products on one thread, measured, operations a second


@dataclass(frozen=True, kw_only=True)
class Estimate(Event):
    """What the run will take, from a measured probe, before it starts."""

    seconds: float
    peak_bytes: int  # resident memory
    disk_bytes: int  # most that stands in the job's folder at once
    steps: int
    tokens: int  # trained in all epochs, prompts included
    trainable: int  # parameters of the adapter
    choice: Choice


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One optimizer step was done."""

    step: int  # from 1
    steps: int
    epoch: float
    loss: float  # mean negative log-likelihood of an answer token, nats
    learning_rate: float
    tokens_per_second: float  # row tokens: a shared prefix counts in every row
    rss_bytes: int
    eta_seconds: float


@dataclass(frozen=True, kw_only=True)
class Validation(Event):
    """The validation rows were scored."""

    step: int
    loss: float  # mean negative log-likelihood of an answer token, nats
    best: bool  # lower than every one before


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training left behind."""

    folder: Path  # adapter_config.json and adapter_model.safetensors, in PEFT's format
    job: str  # identity of the job it belongs to
    digest: str  # sha256 of adapter_model.safetensors
    best_step: int
    steps: int  # that were done; fewer than planned when it stopped early
    train_losses: tuple[float, ...]  # one a step
    valid_losses: tuple[tuple[int, float], ...]  # (step, loss)
    seconds: float  # of training, over all resumes
    tokens: int  # row tokens that were trained
    peak_rss_bytes: int
    choice: Choice
    software: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The result as JSON, the folder left out: it may be moved."""
        values = asdict(self)
        del values["folder"]
        return json.dumps(values, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, folder: Path) -> "TrainResult":
        """Read back what `to_json` wrote."""
        values = json.loads(text)
        values["choice"] = Choice(**values["choice"])
        values["train_losses"] = tuple(values["train_losses"])
        values["valid_losses"] = tuple((int(s), float(x)) for s, x in values["valid_losses"])
        return cls(folder=folder, **values)


OnEvent = Callable[[Event], None]
