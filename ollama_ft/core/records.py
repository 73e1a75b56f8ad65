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
class Measurement(Record):
    """One metric of one evaluation, taken when it was asked for; None: it does not apply."""

    table = "measurements"
    evaluation: int
    name: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Judgement(Record):
    """What a judge model said of two versions' answers to one question, in one order.

    `first` is the version with the lower id, whichever was shown first.
    """

    table = "judgements"
    first: int
    second: int
    question_digest: str
    prompt_digest: str  # of all that the judge was shown
    judge: str  # the model's name at the runtime
    judge_digest: str
    shown_first: int  # the version whose answer stood first
    verdict: str  # "first" | "second" | "tie" | "none" (it gave no verdict)
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rating(Record):
    """What a person who did not know the version gave one answer: 1 (bad) to 5 (good).

    A pair is rated at once and makes two rows. `first` is the version of it with the lower id.
    """

    table = "ratings"
    first: int
    second: int
    version: int  # whose answer it is: `first` or `second`
    question_digest: str
    rater: str
    shown: int  # 1 or 2: the place in which it was shown; 0: both answers were the same
    relevance: int
    fluency: int
    expertise: int


@dataclass(frozen=True, kw_only=True)
class Document(Record):
    """A file that was read for its knowledge; of one path in one family, the newest row counts."""

    table = "documents"
    family: str  # "" = for every family
    path: str
    digest: str  # of the file
    kind: str  # the reader's name: "markdown", "pdf" …
    title: str
    size: int  # bytes
    passages: int
    removed: int = 0  # 1: taken off the shelf by this row


@dataclass(frozen=True, kw_only=True)
class Chunk(Record):
    """A passage's text, once however many documents hold it. `digest` is of heading and text."""

    table = "chunks"
    digest: str
    heading: str  # the headings above it: "Shipping › Abroad"
    text: str
    tokens: int  # as the embedding model counts them, nearly where its vocabulary is not at hand


@dataclass(frozen=True, kw_only=True)
class Placement(Record):
    """Where a chunk stands in a document."""

    table = "placements"
    document: int
    chunk: int
    place: int  # 0, 1, 2 … down the document
    page: int | None


@dataclass(frozen=True, kw_only=True)
class Embedder(Record):
    """An embedding model as a runtime has it. `digest` is of its GGUF."""

    table = "embedders"
    name: str  # the pinned name, which nobody's pull moves
    digest: str
    dimensions: int


@dataclass(frozen=True, kw_only=True)
class Vector(Record):
    """A chunk's embedding: `data` is float16, little-endian, `dimensions` of them, length one."""

    table = "vectors"
    chunk: int
    embedder: int
    data: bytes


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
    Measurement,
    Judgement,
    Rating,
    Document,
    Chunk,
    Placement,
    Embedder,
    Vector,
    Merge,
    VersionTag,
    Removal,
)
