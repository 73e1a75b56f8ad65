"""Gates: the YAML that says when a version is good enough to replace the live one."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ollama_ft.core.files import digest_bytes
from ollama_ft.core.keyed import load_keyed


class GateRules(BaseModel):
    """What must be shown before a version is promoted. Margins and gains are shares: 0.05 = 5 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: str = Field(
        "right", description="What decides: right (pass or fail), or a metric, as token_f1."
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="How often luck alone may pass for a gain, at most."
    )
    power: float = Field(
        0.8, gt=0, lt=1, description="The chance of a clear verdict that `needed` is reckoned for."
    )
    least_gain: float = Field(
        0.05, gt=0, lt=1, description="A smaller gain is not worth a change: ruled out, it fails."
    )
    must_gain: bool = Field(
        True, description="Whether a gain has to be shown; false: to be no worse is enough."
    )
    domain_margin: float = Field(
        0.05, gt=0, lt=1, description="What may be lost of its own questions, where others gain."
    )
    general_margin: float = Field(
        0.15, gt=0, lt=1, description="What may be lost of the general suites."
    )
    first_general_margin: float = Field(
        0.3, gt=0, lt=1, description="The same for a first version, against the bare base."
    )
    safety_margin: float = Field(
        0.2, gt=0, lt=1, description="What may be lost of the safety suites."
    )
    suites: Literal["all"] | tuple[str, ...] = Field(
        "all", description="Suites asked beside the test questions, by name; [] for none."
    )

    def text(self) -> str:
        """The gate as YAML with every key, in this order: what its digest names."""
        import json

        values = self.model_dump(mode="json")
        return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())

    @property
    def digest(self) -> str:
        """Names the gate by its content."""
        return digest_bytes(self.text().encode())

    def for_rival(self, *, bare: bool) -> "GateRules":
        """The rules against a version; `bare`: it is a base that was taught nothing.

        A base knows nothing of the family's questions, and whatever is taught costs it something
        else. Between versions that were both taught, the narrower margin holds.
        """
        margin = max(self.general_margin, self.first_general_margin)
        return self.model_copy(update={"general_margin": margin}) if bare else self

    def margin(self, kind: str) -> float:
        """What may be lost of a suite of this kind."""
        margins = {"general": self.general_margin, "safety": self.safety_margin}
        return margins.get(kind, self.domain_margin)


def load_gate(name: str, folders: list[Path]) -> GateRules:
    """Read a gate by name (from the first folder that has it) or by path.

    Raises NotFound, or BadInput that names the file, the line and the nearest key.
    """
    return load_keyed(GateRules, "gate", name, folders, {}, "ollama-ft config schema --gate")
