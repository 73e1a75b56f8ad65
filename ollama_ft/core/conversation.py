"""A conversation: what one row of a dataset is, whatever file it came from."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

SPLITS = ("train", "validation", "test")
ROLES = ("system", "user", "assistant")

_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn. `role` is one of ROLES."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Turns that end with an answer, and what is known of them."""

    messages: tuple[Message, ...]
    split: str | None = None  # one of SPLITS; None: not decided yet
    accept: tuple[str, ...] = ()  # texts of which any one, in an answer, makes the answer right
    tags: tuple[str, ...] = ()
    source: str = ""  # where the row says it comes from; no part of what it says
    dropped: int = field(default=0, compare=False)  # tool turns that were left out on reading
    must_not_say: tuple[str, ...] = ()  # texts of which any one, in an answer, makes it wrong
    passages: tuple[str, ...] = ()  # of documents, that the answer was given from
    cluster: str = ""  # questions of one cluster stand or fall together; "" = not told

    @property
    def question(self) -> str:
        """The last user turn; "" if there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def answer(self) -> str:
        """The last assistant turn; "" if there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All turns before the last assistant turn: what a model is shown."""
        last = max((i for i, m in enumerate(self.messages) if m.role == "assistant"), default=None)
        return self.messages[:last]

    @property
    def line(self) -> str:
        """The canonical JSON line, without a newline: keys sorted, no spaces, empty fields out."""
        fields: dict[str, object] = {
            "messages": [{"content": m.content, "role": m.role} for m in self.messages],
            "split": self.split,
            "accept": list(self.accept),
            "tags": list(self.tags),
            "source": self.source,
            "must_not_say": list(self.must_not_say),
            "cluster": self.cluster,
            "passages": list(self.passages),
        }
        kept = {name: value for name, value in fields.items() if value}
        return json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """ "sha256:<hex>" of the canonical line."""
        return f"sha256:{hashlib.sha256(self.line.encode()).hexdigest()}"

    @cached_property
    def prompt_key(self) -> bytes:
        """Equal for two conversations that ask the same in the same context (32 bytes)."""
        return _key(*(f"{m.role}:{normalise(m.content)}" for m in self.prompt))

    @cached_property
    def answer_key(self) -> bytes:
        """Equal for two conversations that answer the same (32 bytes)."""
        return _key(normalise(self.answer))

    @cached_property
    def question_key(self) -> bytes:
        """Equal for two conversations with the same last question, whatever came before it."""
        return _key(normalise(self.question))

    @classmethod
    def from_json(cls, row: Mapping[str, object]) -> "Conversation":
        """The conversation of a canonical line that was parsed. The inverse of `line`.

        Only for lines that we wrote ourselves; files from outside go through kinds/formats.
        """
        turns = row["messages"]
        assert isinstance(turns, list), "a canonical line has a list of messages"
        split = row.get("split")
        return cls(
            messages=tuple(Message(role=t["role"], content=t["content"]) for t in turns),
            split=None if split is None else str(split),
            accept=_texts(row.get("accept")),
            tags=_texts(row.get("tags")),
            source=str(row.get("source", "")),
            must_not_say=_texts(row.get("must_not_say")),
            cluster=str(row.get("cluster", "")),
            passages=_texts(row.get("passages")),
        )


def fold(text: str) -> str:
    """One writing for texts that read alike: NFKC, casefold, plain quotes, single spaces.

    Invisible format characters (zero-width spaces, direction marks) go.
    """
    if text.isascii():
        return " ".join(text.casefold().split())
    plain = unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold()
    for invisible in {c for c in set(plain) if unicodedata.category(c) == "Cf"}:
        plain = plain.replace(invisible, "")
    # Once more: casefolding can take a composed letter apart.
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def normalise(text: str) -> str:
    """`fold`, without the punctuation and spaces at both ends, Chinese marks included.

    What is compared wherever two texts are asked to be "the same": duplicates, splits, metrics.
    A text that is nothing but punctuation stays as it is, so that "?" and "!" differ.
    """
    folded = fold(text)
    start, end = 0, len(folded)
    while start < end and _is_edge(folded[start]):
        start += 1
    while end > start and _is_edge(folded[end - 1]):
        end -= 1
    return folded[start:end] or folded


def _is_edge(character: str) -> bool:
    # "-5" and "5", "7%" and "7" are not the same answer.
    if character in "-%‰#&@":
        return False
    return character == " " or unicodedata.category(character).startswith("P")


def _key(*parts: str) -> bytes:
    # The lengths keep ("ab", "c") and ("a", "bc") apart.
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode()).digest()


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
