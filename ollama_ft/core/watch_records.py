"""The rows that watching leaves: drift, checks, shadows, canaries. See core/records.py."""

from dataclasses import dataclass

from ollama_ft.core.records import Record


@dataclass(frozen=True, kw_only=True)
class Drift(Record):
    """One comparison of what is asked now with what was asked before."""

    table = "drifts"
    family: str
    version: int | None  # that was live; None before the first promotion
    drifted: int
    now: int  # questions compared
    before: int
    figures_json: str


@dataclass(frozen=True, kw_only=True)
class Check(Record):
    """One look at whether the live version does worse than it did, or than the one before it."""

    table = "checks"
    family: str
    version: int
    promotion: int  # that made it live
    verdict: str  # "steady" | "decayed" | "unknown" (too few ratings)
    action: str  # "none" | "told" | "rolled back"
    figures_json: str


@dataclass(frozen=True, kw_only=True)
class Shadow(Record):
    """Logged questions asked of two versions; `digest` names the JSON with both answers to each."""

    table = "shadows"
    family: str
    live: int
    candidate: int
    questions: int
    agreed: int  # answers that are the same but for case, spaces and punctuation at their ends
    digest: str
    figures_json: str


@dataclass(frozen=True, kw_only=True)
class Canary(Record):
    """What one version said to fixed prompts at one runtime; `digest` names the JSON with it."""

    table = "canaries"
    version: int
    runtime: str  # "ollama" | "embedded"
    runtime_version: str
    address: str
    base_digest: str  # of the GGUF that the runtime said it served
    digest: str
    figures_json: str  # the runtime's own noise, and how far the version is from the base


RECORDS: tuple[type[Record], ...] = (Drift, Check, Shadow, Canary)
