"""Passages in a prompt: what was found for a question, put behind it in one form everywhere.

`ask`, the proxy and the teacher of a distillation use this one template, so that a model is
asked in the same words that it is taught by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.words import is_unspaced

IN_CONTEXT = "in context"  # the tag of a row that is learned and asked with its passages

# Measured on SmolLM2-135M, 40 questions with four passages each: 10 right with numbered passages in
# front of the question and an instruction before them, 21 with the question first.
ENGLISH = "Use this information, and say that you do not know if the answer is not in it:"
CHINESE = "请根据下列资料回答；如果资料里没有答案，请说不知道。"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A passage of a document that was found for a question."""

    chunk: int  # the row's id
    path: str
    title: str
    heading: str
    page: int | None
    text: str
    score: float  # higher is better; comparable within one search only
    found_by: tuple[str, ...]  # "words", "meaning"

    @property
    def whole(self) -> str:
        """The text under its heading, as it is put into a prompt."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text

    @property
    def place(self) -> str:
        """Where it stands, for people: "guide.pdf, page 3, Shipping › Abroad"."""
        name = self.path.replace("\\", "/").rsplit("/", 1)[-1]
        page = f"page {self.page}" if self.page else ""
        return ", ".join(part for part in (name, page, self.heading) if part)


def with_context(messages: Sequence[Message], passages: Sequence[Passage]) -> list[Message]:
    """The conversation with the passages put behind its last question.

    The form is Chinese if the question is. Without a passage or a question nothing is changed;
    the system text and all other turns stay as they are in any case.
    """
    return shown(messages, [passage.whole for passage in passages])


def asked(row: Conversation) -> list[Message]:
    """The turns before a row's answer, as a model is shown them."""
    return shown(row.prompt, row.passages if IN_CONTEXT in row.tags else ())


def shown(messages: Sequence[Message], passages: Sequence[str]) -> list[Message]:
    """The same for the whole texts of passages, each with its heading as first line."""
    asked = max((at for at, m in enumerate(messages) if m.role == "user"), default=None)
    if asked is None or not passages:
        return list(messages)
    question = messages[asked].content
    request = CHINESE if is_unspaced(question) else ENGLISH
    content = "\n\n".join([question, request, *passages])
    changed = replace(messages[asked], content=content)
    return [*messages[:asked], changed, *messages[asked + 1 :]]
