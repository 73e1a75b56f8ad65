"""Suites: frozen questions under a name, and when an answer to one of them is right."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import BadInput
from ollama_ft.core.files import digest_bytes
from ollama_ft.kinds.filters import script
from ollama_ft.kinds.formats import read_rows
from ollama_ft.kinds.gate import KINDS, WATCHED
from ollama_ft.kinds.general import SHARE
from ollama_ft.kinds.metrics import contains, tokens
from ollama_ft.kinds.splits import group_rows

ID_DIGITS = 8  # of a question's digest, as the gate shows it and --accept takes it
SENTENCE = 4  # tokens from which an answer is a sentence, not a word that many questions share
TEST = "test"  # the name of the suite that is a dataset's test split


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Frozen questions with their references. `family` "" = asked of every family."""

    name: str
    kind: str
    family: str
    questions: tuple[Conversation, ...]
    source: str = ""

    @property
    def content(self) -> bytes:
        """The artefact: one canonical JSON line for each question."""
        return "".join(f"{row.line}\n" for row in self.questions).encode()

    @cached_property
    def digest(self) -> str:
        """Names the suite by its content."""
        return digest_bytes(self.content)


def make_suite(
    name: str, kind: str, family: str, rows: Iterable[Conversation], source: str = ""
) -> Suite:
    """A suite of the rows, in canonical order, equal questions once (the last one stands).

    Raises BadInput if the kind is none of KINDS.
    """
    if kind not in KINDS:
        raise BadInput(f"{kind!r} is no kind of suite.", mend=f"--kind {'|'.join(KINDS)}")
    once = {row.prompt_key: row for row in rows}
    ordered = tuple(sorted(once.values(), key=lambda row: row.digest))
    return Suite(name=name, kind=kind, family=family, questions=ordered, source=source)


def read_suite(path: Path, *, name: str, kind: str, family: str) -> Suite:
    """The suite of a file in any format that training data may have. Raises BadInput, NotFound."""
    rows = [row for _, row in read_rows(path)]
    return make_suite(name, kind, family, rows, path.name)


def kind_by_name(name: str) -> str:
    """The kind that a file's name tells: "general-zh" is general; where it tells none, domain."""
    return next((kind for kind in KINDS if name == kind or name.startswith(f"{kind}-")), "domain")


def read_folders(folders: Sequence[Path]) -> list[Suite]:
    """The suites that lie as files in `folders`, for every family; the first of a name wins."""
    found: dict[str, Suite] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.jsonl")):
            if path.stem not in found:
                kind = kind_by_name(path.stem)
                found[path.stem] = read_suite(path, name=path.stem, kind=kind, family="")
    return list(found.values())


def question_id(digest: str) -> str:
    """The short name of a question."""
    return digest.removeprefix("sha256:")[:ID_DIGITS]


def cluster_of(question: Conversation) -> str:
    """What the question stands or falls with: its own `cluster`, or else its answer.

    Phrasings of one fact share the sentence that answers them. An answer of a word or two is shared
    by chance, so such a question stands alone.
    """
    if question.cluster:
        return f"cluster {question.cluster}"
    if len(tokens(question.answer)) >= SENTENCE:
        return f"answer {question.answer_key.hex()}"
    return f"question {question.prompt_key.hex()}"


def only_forbids(question: Conversation) -> bool:
    """Whether a question tells what must not be said, and nothing that has to be."""
    return bool(question.must_not_say) and not question.accept


def is_right(
    question: Conversation, answer: str, scores: Mapping[str, float], *, stopped: bool
) -> bool:
    """Whether an answer is right. `scores` are the metrics of this answer.

    It must end by itself, contain the reference or an accepted text, and no text of
    `must_not_say`. A question that only forbids is about what is not said: any other answer is
    right, also one that was cut off. A version that finds no end pays for it in its other suites.
    """
    if question.must_not_say:
        forbidden = replace(question, messages=question.prompt, accept=question.must_not_say)
        if not answer.strip() or contains(answer, forbidden):
            return False
        if only_forbids(question):
            return True
    return stopped and scores["contains"] >= 1.0


def is_spoken(suite: Suite, questions: Sequence[Conversation]) -> bool:
    """Whether a general or safety suite for all is in a language of a family's own `questions`.

    As with the general text: Chinese counts from SHARE of the questions on, all else up to the
    same share from the other side. A family's own suites, and other kinds, are always asked.
    """
    if suite.family or suite.kind not in WATCHED:
        return True
    share = _chinese(questions)
    return share >= SHARE if _chinese(suite.questions) > 0.5 else share <= 1 - SHARE


def _chinese(questions: Sequence[Conversation]) -> float:
    return sum(script(row.question) == "Chinese" for row in questions) / max(1, len(questions))


@dataclass(frozen=True, kw_only=True)
class Banned:
    """What is asked in suites, and so is never learned."""

    rows: tuple[Conversation, ...] = ()  # each question once

    def among(self, rows: Sequence[Conversation]) -> list[bool]:
        """Which of `rows` are, or hang together with, a question of a suite.

        The same question, a row of its named cluster, or one that is nearly the same (kinds/near).
        """
        questions = {row.question_key for row in self.rows}
        clusters = {row.cluster for row in self.rows if row.cluster}
        heads = group_rows([*self.rows, *rows]).first if self.rows else [0] * len(rows)
        near = set(heads[: len(self.rows)])
        return [
            row.question_key in questions or row.cluster in clusters or head in near
            for row, head in zip(rows, heads[len(self.rows) :], strict=True)
        ]


def ban(suites: Iterable[Suite]) -> Banned:
    """What the questions of these suites ban from training."""
    rows = {(row.question_key, row.cluster): row for suite in suites for row in suite.questions}
    return Banned(rows=tuple(rows.values()))
