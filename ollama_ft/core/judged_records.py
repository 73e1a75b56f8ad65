"""What answers are worth: suites, replies, measurements, judgements, ratings and verdicts."""

from dataclasses import dataclass

from ollama_ft.core.records import Record


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
class FrozenSuite(Record):
    """Frozen questions under a name; the newest row of a name is the suite.

    Whatever stood in any row is never learned again. `digest` names the JSONL with the questions.
    """

    table = "suites"
    name: str
    family: str  # "" = asked of every family
    kind: str  # "domain" | "general" | "safety" | "must-not-forget"
    digest: str
    questions: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Reply(Record):
    """What a version answered to one prompt, greedily: it is never asked the same again.

    Digests, not ids: the same version in another family, the same question in another suite.
    """

    table = "replies"
    version_digest: str
    prompt_digest: str  # of the turns that it was shown
    options_digest: str  # of the options that it was asked with
    text: str
    done_reason: str  # "stop", or why it did not end by itself; "" = broken off
    prompt_tokens: int
    answer_tokens: int
    prompt_seconds: float
    answer_seconds: float
    total_seconds: float
    load_seconds: float


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """The gate's decision about a version, with every figure; `digest` names what it rests on."""

    table = "verdicts"
    version: int
    against: int  # the version that was live
    gate: str
    gate_digest: str
    outcome: str  # "pass" | "fail" | "inconclusive"
    digest: str
    accepted_json: str  # must-not-forget question → the reason why it may be lost
    figures_json: str


RECORDS: tuple[type[Record], ...] = (Measurement, Judgement, Rating, FrozenSuite, Reply, Verdict)
