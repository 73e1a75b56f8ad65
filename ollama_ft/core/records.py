"""The data model on one page: one frozen record for each table, in the order of the loop.

A record is a row that was appended and never changes. What changes is only which row is newest.
Columns named after another table (`base`, `run`, `version` …) hold the id of a row there, `digest`
holds "sha256:<hex>" of the artefact or of the canonical content, and `…_json` a JSON object.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar


def utc_now() -> str:
    """Return the time as every table stores it: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every row has."""

    table: ClassVar[str]
    id: int | None = None  # given by SQLite
    at: str = field(default_factory=utc_now)

    @property
    def key(self) -> int:
        """The row's id; only a row that is stored has one."""
        assert self.id is not None, "the row is not stored yet"
        return self.id


@dataclass(frozen=True, kw_only=True)
class Base(Record):
    """An Ollama model, pinned by digest. `blob_digest` is the GGUF that is trained against."""

    table = "bases"
    name: str  # as the user wrote it, in Ollama's short form: "qwen2.5:0.5b"
    pinned: str  # the name that keeps it at the runtime: "ollama-ft/base-b179c952:latest"
    blob_digest: str
    manifest_digest: str
    size: int  # bytes of the GGUF
    architecture: str
    parameter_size: str  # "134.52M"
    quantization: str  # "Q4_1"
    licence: str
    source_json: str  # which source it came from, and where


@dataclass(frozen=True, kw_only=True)
class Family(Record):
    """A line of versions under one Ollama name, with the prompt that all of them share."""

    table = "families"
    name: str
    base: int
    system: str
    template: str  # the Go template that every version is published with; "" = the base's Jinja
    parameters_json: str


@dataclass(frozen=True, kw_only=True)
class Use(Record):
    """The newest row names the current family."""

    table = "uses"
    family: str


@dataclass(frozen=True, kw_only=True)
class Dataset(Record):
    """A frozen, content-addressed list of conversations with its split."""

    table = "datasets"
    family: str
    digest: str
    parent: int | None
    rows: int
    train: int
    validation: int
    test: int
    duplicates: int  # rows dropped because an equal one is in
    conflicts: int  # questions that came with two answers; the newest is kept
    sources_json: str  # file name -> rows read
    banned: int = 0  # rows that are a suite's question, and so are not learned


@dataclass(frozen=True, kw_only=True)
class RecipeText(Record):
    """The YAML that said how to train, every key filled in."""

    table = "recipes"
    name: str
    digest: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """One training: recipe + base + dataset + seed → adapter. `digest` names these inputs."""

    table = "runs"
    family: str
    digest: str
    base: int
    dataset: int
    recipe: int
    seed: int
    prompt_digest: str  # of the rendered probes: what the runtime made of the same messages
    peft_digest: str  # of adapter_model.safetensors
    seconds: float
    metrics_json: str
    software_json: str
    place: str  # where it ran: "cpu, 2 threads, fp32"


@dataclass(frozen=True, kw_only=True)
class Adapter(Record):
    """The LoRA of one run as the GGUF that is served."""

    table = "adapters"
    run: int
    digest: str
    size: int  # bytes
    tensors: int
    max_error: float  # largest relative error of scale·B·A against PEFT's delta, after reading back


@dataclass(frozen=True, kw_only=True)
class Version(Record):
    """`family:vN`, immutable. `v0` is the bare base: it has no run, no adapter, no dataset."""

    table = "versions"
    family: str
    number: int
    digest: str  # of base, adapter, system, template and parameters together
    base: int
    run: int | None = None
    adapter: int | None = None
    dataset: int | None = None
    parent: int | None = None  # the version that was live when this one was made
    system: str
    template: str
    parameters_json: str

    @property
    def tag(self) -> str:
        """The immutable Ollama name: "support:v3"."""
        return f"{self.family}:v{self.number}"


@dataclass(frozen=True, kw_only=True)
class Publication(Record):
    """One version brought to one runtime, and the way it went there."""

    table = "publications"
    version: int
    runtime: str  # "ollama" | "embedded"
    runtime_version: str
    address: str
    route: str
    tag: str
    digest: str  # of the manifest at the runtime
    capabilities_json: str


@dataclass(frozen=True, kw_only=True)
class Proof(Record):
    """Whether what is served is what was trained; `digest` names the JSON with every figure."""

    table = "proofs"
    version: int
    publication: int
    passed: int
    digest: str
    figures_json: str


@dataclass(frozen=True, kw_only=True)
class Evaluation(Record):
    """One version's answers to frozen questions, scored; `digest` names the JSON with them all."""

    table = "evaluations"
    version: int
    suite_digest: str
    questions: int
    right: int
    perplexity: float | None  # on general text; None for a version made without the trainer
    digest: str
    metrics_json: str
    suite: str = ""  # the suite's name; "" = the test questions of the family's data


@dataclass(frozen=True, kw_only=True)
class Intent(Record):
    """A move of the live pointer that has been decided. Its outcome is a promotion row."""

    table = "intents"
    family: str
    version: int
    action: str  # "promote" | "rollback"
    parent: int | None  # the promotion that a rollback returns to; None for the first
    reason: str


@dataclass(frozen=True, kw_only=True)
class Promotion(Record):
    """How an intent ended: "done", and the pointer stands; or "abandoned", and it never moved."""

    table = "promotions"
    intent: int
    family: str
    version: int
    action: str
    parent: int | None
    reason: str
    outcome: str
    digest: str  # of `family:latest`, read back from the runtime


@dataclass(frozen=True, kw_only=True)
class Origin(Record):
    """Where a version came from that was not trained in this home."""

    table = "origins"
    version: int
    kind: str  # "bundle" | "registry" | "peft" | "mlx" | "gguf" | "modelfile"
    source: str  # the file's name, or the place in the registry
    digest: str  # of the artefact's manifest; of the adapter where there is none
    signer: str  # fingerprint of the key that signed it; "" if nobody did, or it is not trusted


@dataclass(frozen=True, kw_only=True)
class Merge(Record):
    """An adapter built into its base, for runtimes that take none. The file is in the store."""

    table = "merges"
    adapter: int
    packed_as: str  # what was asked for: "keep", "Q8_0" …
    digest: str
    size: int  # bytes
    base_size: int
    mean_error: float  # what packing changed, over what the adapter changed; mean of all matrices
    max_error: float
    types_json: str  # how many changed matrices are packed as what


@dataclass(frozen=True, kw_only=True)
class VersionTag(Record):
    """A word on a version. The newest row of a version and a name says whether it is there."""

    table = "tags"
    version: int
    name: str  # "keep"
    present: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Removal(Record):
    """Weights that `gc` let go. The rows that speak of them stay."""

    table = "removals"
    digest: str
    kind: str  # "adapter" | "blob"
    version: int | None  # None for what no version needed
    size: int  # bytes that became free
    reason: str


@dataclass(frozen=True, kw_only=True)
class Cleaned(Record):
    """A dataset made from another by cleaning; `digest` names the JSONL that says what changed."""

    table = "cleanings"
    family: str
    dataset: int  # the revision that was made
    parent: int  # the dataset that was cleaned, as it was
    came: int  # rows of the parent
    stayed: int
    digest: str
    counts_json: str  # "dropped", "redacted", "repaired": reason → rows


RECORDS: tuple[type[Record], ...] = (
    Base,
    Family,
    Use,
    Dataset,
    RecipeText,
    Run,
    Adapter,
    Version,
    Publication,
    Proof,
    Evaluation,
    Intent,
    Promotion,
    Origin,
    Merge,
    VersionTag,
    Removal,
    Cleaned,
)
