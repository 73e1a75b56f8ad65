"""More ways to ask: questions put together from words of all the ways in which the same is asked.

A few phrasings teach a model those very sentences. Given some of their telling words in any order,
and some of the answer's, it has to find the answer by what is asked about, as it must when somebody
asks in words of their own. In each pass over the rows others are drawn. Only rows that are trained
on are asked in this way; validation and test stay as people wrote them.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from ollama_ft.core.conversation import Conversation, Message, fold

# Two Chinese characters, which is what most of its words have, else a word with what holds it
# together: "E-14", "3.5", "don't".
PIECE = re.compile(r"[\u3400-\u9fff]{1,2}|[^\W\u3400-\u9fff](?:[\w.:'’-]*[^\W\u3400-\u9fff])?")
FEWEST, MOST = 3, 7  # pieces in a question
COMMON = 0.05  # a piece in more of the groups than this tells nothing apart
LONGEST = 40  # pieces; what is longer is a text to work on rather than a question
MARKS = ("?", "")

HEARD = 64  # times that an answer is heard: with four ways to ask 16 passes, with eight 8
PASSES = (4, 16)  # but no fewer and no more

Asked = dict[int, Conversation]


def recombined(rows: Sequence[Conversation], share: float, passes: int, seed: int) -> list[Asked]:
    """For each of the passes: the rows (by their index) that are asked in other words in it.

    A row is so with the chance `share`. It stays as it is where nobody asks for its answer in
    another way, where it is longer than a question is, and in pass 0: first the real questions.
    The same arguments give the same questions.
    """
    words = _telling_words(rows)
    found: list[Asked] = [{} for _ in range(passes)]
    for at, asked in enumerate(found[1:], start=1):
        for i, known in words.items():
            chance = random.Random(f"{seed}/{at}/{rows[i].digest}")  # hashed alike everywhere
            if chance.random() < share:
                asked[i] = _asking(rows[i], _question(known, chance))
    return found


def passes(rows: Sequence[Conversation]) -> int:
    """How many passes over the rows teach their answers: fewer where each is asked for more often.

    Measured on sets with four and six ways to ask for each of sixty answers (docs/training.md).
    """
    answers = len({(row.answer_key, row.prompt[:-1]) for row in rows})
    least, most = PASSES
    return min(most, max(least, round(HEARD * answers / len(rows))))


def _telling_words(rows: Sequence[Conversation]) -> dict[int, list[str]]:
    # By row: what its group (all that ask for one answer) says, without what all groups say
    groups: dict[tuple[bytes, tuple[Message, ...]], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if len(PIECE.findall(row.question)) <= LONGEST:
            groups[(row.answer_key, row.prompt[:-1])].append(i)
    said = [_pieces(rows[i] for i in group) for group in groups.values()]
    common = Counter(key for pieces in said for key in pieces)
    most = max(2, COMMON * len(said))
    return {
        i: telling
        for group, pieces in zip(groups.values(), said, strict=True)
        if len(group) > 1
        and len(telling := [p for key, p in pieces.items() if common[key] <= most]) >= FEWEST
        for i in group
    }


def _pieces(rows: Iterator[Conversation]) -> dict[str, str]:
    # Folded piece -> the piece as it was first written
    pieces: dict[str, str] = {}
    for row in rows:
        for piece in PIECE.findall(f"{row.question} {row.answer}"):
            pieces.setdefault(fold(piece), piece)
    return pieces


def _question(words: Sequence[str], chance: random.Random) -> str:
    some = chance.sample(words, chance.randint(FEWEST, min(MOST, len(words))))
    text = some[0]
    for before, piece in pairwise(some):
        text += piece if _glued(before) and _glued(piece) else f" {piece}"
    return text + chance.choice(MARKS)


def _glued(piece: str) -> bool:
    return "\u3400" <= piece[0] <= "\u9fff"


def _asking(row: Conversation, question: str) -> Conversation:
    last = max(i for i, message in enumerate(row.messages) if message.role == "user")
    messages = list(row.messages)
    messages[last] = Message(role="user", content=question)
    return replace(row, messages=tuple(messages), tags=(*row.tags, "recombined"))
