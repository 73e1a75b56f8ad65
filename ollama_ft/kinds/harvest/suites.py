"""What a suite asks is not learned: or a version would be marked on what it was told.

GPT-3's way of counting (arXiv 2005.14165, appendix C) with a shorter run, since questions are
short: a row is out if it shares RUN words with a suite's question, has the question in it, or
nearly is the question. Phrasings that only mean the same stay, as in kinds/near.
"""

import re
from collections.abc import Iterator, Sequence

from ollama_ft.kinds.harvest.candidate import Candidate, Settings, Sieved, divide
from ollama_ft.kinds.near import group, plain

RUN = 8  # words in a row; of Chinese, characters
LEAST = 4  # words of a question that may be looked for inside another

_TOKEN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\\W\u3040-\u30ff\u3400-\u9fff]+")


def apart(candidates: Sequence[Candidate], settings: Settings) -> Sieved:
    """Leave out what the suites ask. A test row that came from the log itself may come again."""
    asked = [plain(row.question) for row in settings.asked]
    runs = {run for text in asked for run in _runs(_tokens(text), RUN)}
    inside = {tuple(_tokens(text)) for text in asked}
    lengths = sorted({len(tokens) for tokens in inside if len(tokens) >= LEAST})
    near = _near(candidates, asked)

    def why(one: Candidate) -> str:
        if one.uid in settings.tested:
            return ""
        tokens = _tokens(plain(one.row.question))
        if one.uid in near or tuple(tokens) in inside:
            return "a suite asks it"
        if any(run in inside for length in lengths for run in _runs(tokens, length)):
            return "a suite's question is in it"
        return (
            f"{RUN} words in a row of a suite's" if not runs.isdisjoint(_runs(tokens, RUN)) else ""
        )

    return divide(candidates, why)


def _near(candidates: Sequence[Candidate], asked: Sequence[str]) -> set[str]:
    questions = [*asked, *(plain(one.row.question) for one in candidates)]
    first = group(questions, [""] * len(questions)).first
    taken = set(first[: len(asked)])
    behind = first[len(asked) :]
    return {one.uid for one, head in zip(candidates, behind, strict=True) if head in taken}


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _runs(tokens: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(tokens[at : at + length]) for at in range(len(tokens) - length + 1))
