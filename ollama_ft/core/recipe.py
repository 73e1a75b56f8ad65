"""Recipes: the YAML that says how to train. Few keys, each with its meaning under it."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.files import digest_bytes


class Recipe(BaseModel):
    """How to train one adapter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    epochs: float = Field(16.0, gt=0, le=1000, description="Passes over the training rows.")
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
    path = _find(name, folders)
    values, lines = _read(path)
    for key, text in changes.items():
        values[key] = _scalar(text)
        lines.pop(key, None)
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise _first_problem(path, error, lines) from error


def read_recipe(text: str) -> Recipe:
    """A recipe from what its `text` wrote, as the catalog keeps it."""
    return Recipe(**_scalar(text))


def _find(name: str, folders: list[Path]) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise NotFound(f"There is no recipe file {name}.", mend="ollama-ft config schema")
    for folder in folders:
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    raise NotFound(f"There is no recipe {name!r}. Known: {', '.join(known)}.")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}, {}
    if not isinstance(loaded, CommentedMap):
        raise BadInput(f"{path} must hold `key: value` lines.", mend="ollama-ft config schema")
    lines = {str(key): loaded.lc.key(key)[0] + 1 for key in loaded}
    return {str(key): value for key, value in loaded.items()}, lines


def _scalar(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def _first_problem(path: Path, error: ValidationError, lines: Mapping[str, int]) -> BadInput:
    problem = error.errors()[0]
    key = str(problem["loc"][0])
    where = f"{path}, line {lines[key]}" if key in lines else f"--set {key}"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Recipe.model_fields, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return BadInput(f"{where}: {key!r} is no key of a recipe.{hint}", mend=SCHEMA)
    return BadInput(
        f"{where}: {key} = {problem['input']!r}: {problem['msg'].lower()}.", mend=SCHEMA
    )


SCHEMA = "ollama-ft config schema"
