"""Where a version comes from, as one JSON document that travels with it.

It holds what the catalog's rows behind the version say, without their ids: other machines have
others. Of the data it holds the digest and the counts, never a row or a file's name.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from ollama_ft.core.errors import BadInput
from ollama_ft.core.files import digest_bytes
from ollama_ft.core.records import Family
from ollama_ft.runtime.oci.artefact import canonical, read_json

FORMAT: Literal["ollama-ft.version/1"] = "ollama-ft.version/1"


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


def _measured(metrics: dict[str, Any]) -> dict[str, Any]:
    told = metrics.get("general_perplexity")
    for name in ("base", "tuned"):
        if not isinstance(told, dict) or type(told.get(name)) not in (int, float):
            raise ValueError(f"general_perplexity.{name} is no number")
    return metrics


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(max_length=200)]
Text = Annotated[str, StringConstraints(max_length=1 << 20)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Time = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT[0-9:.+Z-]{5,24}$"),
    AfterValidator(_moment),
]
Parameter = bool | int | Number | Text | list[Text]


class Facts(BaseModel):
    """Unknown fields are passed over, so that a later ollama-ft may tell more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class VersionFacts(Facts):
    """The version itself, and the prompt that it answers under."""

    family: Word
    number: Annotated[int, Field(ge=1, lt=1 << 31)]
    digest: Digest
    at: Time
    system: Text
    template: Text
    parameters: dict[Word, Parameter]
    parent: Digest | None = None  # the version that was live when this one was made


class BaseFacts(Facts):
    """The base by its digests. `name` says where it may be had; the digest says what it is."""

    name: Word
    blob_digest: Digest
    manifest_digest: Digest
    size: Count  # bytes of the GGUF
    architecture: Word
    parameter_size: Word
    quantization: Word
    licence: Text


class DatasetFacts(Facts):
    """The data by its digest and counts."""

    digest: Digest
    at: Time
    rows: Count
    train: Count
    validation: Count
    test: Count
    duplicates: Count
    conflicts: Count


class RecipeFacts(Facts):
    """How it was trained, every key filled in."""

    name: Word
    digest: Digest
    text: Text


class RunFacts(Facts):
    """The training: seed, time, figures, software, machine."""

    digest: Digest
    at: Time
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    prompt_digest: Digest
    peft_digest: Digest
    seconds: Number
    metrics: Annotated[dict[str, Any], AfterValidator(_measured)]
    software: dict[str, Any]
    place: Word


class AdapterFacts(Facts):
    """The adapter as it is served."""

    digest: Digest
    at: Time
    size: Count
    tensors: Count
    max_error: Number


class ProofFacts(Facts):
    """The newest proof where the version comes from. It is proved anew wherever it goes."""

    digest: Digest
    at: Time
    passed: bool
    runtime: Word
    runtime_version: Word
    route: Word
    figures: dict[str, Any]


class EvaluationFacts(Facts):
    """The newest evaluation where the version comes from."""

    digest: Digest
    at: Time
    suite_digest: Digest
    questions: Count
    right: Count
    perplexity: Number | None
    metrics: dict[str, Any]


class Provenance(Facts):
    """All of it. `proof` and `evaluation` are None where there is none."""

    format: Literal["ollama-ft.version/1"] = FORMAT
    version: VersionFacts
    base: BaseFacts
    dataset: DatasetFacts
    recipe: RecipeFacts
    run: RunFacts
    adapter: AdapterFacts
    proof: ProofFacts | None = None
    evaluation: EvaluationFacts | None = None

    @property
    def tag(self) -> str:
        """The version's name where it was made: "support:v3"."""
        return f"{self.version.family}:v{self.version.number}"

    def made_of(self) -> str:
        """The digest that a version of this base, adapter and prompt has."""
        told = self.version
        family = Family(
            name=told.family,
            base=0,
            system=told.system,
            template=told.template,
            parameters_json=json.dumps(told.parameters),
        )
        return version_digest(self.base.blob_digest, self.adapter.digest, family)

    def named(self) -> dict[str, str]:
        """The digests of the artefact's files that the facts name, by title."""
        found = {
            "adapter.gguf": self.adapter.digest,
            "adapter_model.safetensors": self.run.peft_digest,
        }
        found |= {"proof.json": self.proof.digest} if self.proof else {}
        return found | ({"evaluation.json": self.evaluation.digest} if self.evaluation else {})

    def content(self) -> bytes:
        """The document's bytes, the same for the same facts."""
        return canonical(self.model_dump(mode="json"))


def version_digest(base_blob: str, adapter: str | None, family: Family) -> str:
    """Names a version by what decides its answers: base, adapter, and the family's prompt."""
    content = {
        "base": base_blob,
        "adapter": adapter,
        "system": family.system,
        "template": family.template,
        "parameters": json.loads(family.parameters_json),
    }
    return digest_bytes(json.dumps(content, ensure_ascii=False, sort_keys=True).encode())


def read_provenance(content: bytes) -> Provenance:
    """Read the document of a version from outside. Raises BadInput naming the field."""
    told: Mapping[str, Any] = read_json(content, "provenance")
    if (form := told.get("format")) != FORMAT:
        raise BadInput(
            f"The provenance is written in the format {form!r:.60}; {FORMAT!r} is read here.",
            mend="pip install --upgrade ollama-ft",
        )
    try:
        return Provenance.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"The provenance is not in order: {where}: {first['msg']}.") from error
