"""Passages in a prompt: what was found for a question, put before it in one form everywhere.

`ask`, the proxy and the teacher of a distillation use this one template, so that a model is
asked in the same words that it is taught by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.words import is_unspaced

ENGLISH = """\
Answer the question from the numbered passages. If they do not hold the answer, say that you do \
not know.

{passages}

Question: {question}"""
IN_CONTEXT = "in context"  # the tag of a row that is learned and asked with its passages
CHINESE = """\
请根据下列编号的资料回答问题。如果资料里没有答案，请回答不知道。

{passages}

问题：{question}"""


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
    """The conversation with the passages put before its last question, numbered from 1.

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
    form = CHINESE if is_unspaced(question) else ENGLISH
    listed = "\n\n".join(f"[{at}] {passage}" for at, passage in enumerate(passages, start=1))
    # One pass over the form: a passage may hold braces.
    head, _, rest = form.partition("{passages}")
    content = head + listed + rest.replace("{question}", question)
    changed = replace(messages[asked], content=content)
    return [*messages[:asked], changed, *messages[asked + 1 :]]
