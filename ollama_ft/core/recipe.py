"""Recipes: the YAML that says how to train. Few keys, each with its meaning under it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ollama_ft.core.files import digest_bytes
from ollama_ft.core.keyed import load_keyed, scalar


class Recipe(BaseModel):
    """How to train one adapter."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base: str | None = Field(None, description="A base this recipe is meant for; empty for any.")
    adapter: Literal["lora"] = Field("lora", description="The kind of adapter.")
    rank: int = Field(16, ge=1, le=1024, description="LoRA rank r.")
    alpha: float = Field(
        32.0, gt=0, description="LoRA alpha; the update is scaled by alpha / rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in front of the adapter.")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="Which linear layers get an adapter, by module name."
    )
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Peak learning rate of AdamW.")
    batch_size: int = Field(8, ge=1, le=4096, description="Rows in one step.")
    epochs: float = Field(
        16.0,
        ge=0,
        le=1000,
        description="Passes over the training rows; 0: enough to hear each answer 64 times.",
    )
    max_length: int = Field(
        1024, ge=16, description="Longest row in tokens; longer ones are an error."
    )
    warmup_ratio: float = Field(
        0.05, ge=0, le=1, description="Share of the steps with a rising rate."
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's decoupled weight decay.")
    patience: int = Field(
        0, ge=0, description="Validations without gain before it stops; 0: those rows teach."
    )
    retain: float = Field(
        2.0, ge=0, le=100, description="Weight of saying what the base says on general text."
    )
    distill: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of saying what the base says with a row's passages in its prompt.",
    )
    recombine: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Chance that a pass asks in words put together from all ways of asking.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of everything random.")
    precision: Literal["auto", "fp32", "bf16", "fp16", "nf4"] = Field(
        "auto", description="How the frozen base is kept in memory; auto = probed."
    )
    start: str = Field(
        "", description="Digest of an earlier run's adapter to go on from; empty: a fresh one."
    )

    def text(self) -> str:
        """The recipe as YAML with every key, in this order: what the catalog keeps."""
        import json

        values = self.model_dump(mode="json")
        return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())

    @property
    def digest(self) -> str:
        """Names the recipe by its content."""
        return digest_bytes(self.text().encode())


def load_recipe(name: str, folders: list[Path], changes: Mapping[str, str]) -> Recipe:
    """Read a recipe by name (from the first folder that has it) or by path, then apply `changes`.

    `changes` are --set key=value pairs; their values are read as YAML.

    Raises NotFound, or BadInput that names the file, the line and the nearest key.
    """
    return load_keyed(Recipe, "recipe", name, folders, changes, "ollama-ft config schema")


def read_recipe(text: str) -> Recipe:
    """A recipe from what its `text` wrote, as the catalog keeps it."""
    return Recipe(**scalar(text))
