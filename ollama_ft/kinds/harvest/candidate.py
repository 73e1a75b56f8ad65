"""An exchange that may be learned from, and what a rule says about many of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ollama_ft.core.conversation import Conversation, Message

CORRECTED, UP, UNRATED, DOWN = "corrected", "up", "unrated", "down"
TIERS = (CORRECTED, UP, UNRATED, DOWN)  # the best first

_EXCHANGE = "exchange:"


def source_of(uid: str) -> str:
    """What a row of a dataset says in `source` when it comes from this exchange."""
    return _EXCHANGE + uid


def exchange_of(row: Conversation) -> str:
    """The uid of the exchange that a row comes from; "" if it comes from a file."""
    return row.source.removeprefix(_EXCHANGE) if row.source.startswith(_EXCHANGE) else ""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One exchange as a row to learn from: the answer of `row` is the correction where one is."""

    uid: str
    at: str  # of the newest opinion, else of the exchange
    client: str
    tier: str  # one of TIERS
    row: Conversation
    said: str  # what the model answered; "" if it broke off or failed
    passages: tuple[str, ...] = ()  # texts that were retrieved for it
    topic: str = ""  # the passage that was found first; "" if none was
    trouble: str = ""  # what is known to be wrong with it: "broke off"

    @cached_property
    def said_key(self) -> tuple[bytes, bytes]:
        """Equal for two exchanges in which the model gave the same answer to the same question."""
        turn = Message(role="assistant", content=self.said)
        return self.row.prompt_key, Conversation(messages=(turn,)).answer_key

    @property
    def taught_key(self) -> tuple[bytes, bytes]:
        """Like `said_key`, of the answer that would be learned."""
        return self.row.prompt_key, self.row.answer_key

    @property
    def rank(self) -> tuple[int, str, str]:
        """Orders candidates: the higher one is the better to learn from."""
        return (-TIERS.index(self.tier), self.at, self.uid)


@dataclass(frozen=True, kw_only=True)
class Left:
    """A candidate that a rule left out."""

    candidate: Candidate
    why: str


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Two answers to one question; the first one stands."""

    question: str
    stands: str
    other: str
    exchanges: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sieved:
    """What one rule made of its candidates."""

    kept: Sequence[Candidate]
    left: Sequence[Left] = ()
    conflicts: Sequence[Conflict] = ()
    changed: int = 0  # candidates that were kept otherwise than they came


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the rules go by."""

    support: float = 0.6  # least share of an unrated answer's words that its passages must hold
    most_tokens: int = 1024  # of a row: the recipe's max_length
    per_topic: int = 50
    per_client: int = 200  # but always as many as half of all
    taught: Mapping[bytes, Conversation] = field(default_factory=dict)  # files' rows by prompt_key
    asked: Sequence[Conversation] = ()  # the questions of suites and test splits
    tested: Collection[str] = ()  # exchanges that are test rows, and may be so again


Rule = Callable[[Sequence[Candidate], Settings], Sieved]


def divide(candidates: Sequence[Candidate], fault: Callable[[Candidate], str]) -> Sieved:
    """Keep the candidates for which `fault` returns ""; what else it returns is the reason."""
    kept: list[Candidate] = []
    left: list[Left] = []
    for one in candidates:
        if why := fault(one):
            left.append(Left(candidate=one, why=why))
        else:
            kept.append(one)
    return Sieved(kept=kept, left=left)
