"""Two versions with stored answers to the same questions, made without any runtime."""

import json
from dataclasses import asdict

from ollama_ft.core.catalog import append
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.files import freeze
from ollama_ft.core.home import Home
from ollama_ft.core.records import Evaluation, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.stages import dataset
from ollama_ft.stages.evaluate import Answered
from ollama_ft.stages.suite import of_test_rows
from tests.rows import a_family, a_version

# question, reference, what v1 says, what v2 says: won by v1, by v2, both right, both wrong, the same
ASKED = [
    ("When do you open?", "At nine.", "At nine.", "At ten."),
    ("你们几点关门？", "晚上八点", "我不知道。", "晚上八点关门。"),
    ("Where are you?", "In Oslo.", "In Oslo, by the water.", "We are in Oslo."),
    ("Who are you?", "Wren", "A shop.", "\x1b[31mA model | with a pipe\nand a line"),
    ("Are you open on Sunday?", "No", "No.", "no"),
]


def conversation(question: str, reference: str, split: str = "test") -> Conversation:
    turns = (
        Message(role="user", content=question),
        Message(role="assistant", content=reference),
    )
    return Conversation(messages=turns, split=split)


def answered(row: Conversation, answer: str, times: dict[str, float] | None = None) -> Answered:
    right = row.answer.strip(".").casefold() in answer.casefold()
    return Answered(
        question_digest=row.digest,
        question=row.question,
        expected=row.answer,
        answer=answer,
        right=right,
        stopped=True,
        scores={},
        times=times or {},
    )


def evaluated(
    db: Database, home: Home, version: Version, answers: list[Answered], suite: str = "sha256:s"
) -> Evaluation:
    content = json.dumps([asdict(one) for one in answers], ensure_ascii=False).encode()
    digest, _ = freeze(home.data("evaluations"), content, ".json")
    return append(
        db,
        Evaluation(
            version=version.key,
            suite_digest=suite,
            questions=len(answers),
            right=sum(one.right for one in answers),
            perplexity=19.0,
            digest=digest,
            metrics_json='{"stops": 1.0}',
        ),
    )


def two_versions(db: Database, home: Home) -> tuple[Version, Version]:
    """bot:v1 and bot:v2, and what they answered to ASKED, their family's test questions."""
    family = a_family(db)
    v1, v2 = (a_version(db, family, number) for number in (1, 2))
    rows = [conversation(question, reference) for question, reference, *_ in ASKED]
    frozen = dataset.build([*rows, conversation("Taught?", "Yes", "train")])
    dataset.freeze(db, home, "bot", frozen)
    suite = of_test_rows(frozen.rows, "bot").digest
    for version, place in ((v1, 2), (v2, 3)):
        said = [answered(row, asked[place]) for row, asked in zip(rows, ASKED, strict=True)]
        evaluated(db, home, version, said, suite)
    return v1, v2
