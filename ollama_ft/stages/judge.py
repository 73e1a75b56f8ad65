"""A judge model's verdicts on two versions' answers, each pair in both orders, none asked twice.

Reads:  versions
Writes: judgements
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, every, newest
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import Count, Emit
from ollama_ft.core.judged_records import Judgement
from ollama_ft.core.records import Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.judging import SCHEMA, Judged, messages, prompt_digest, read
from ollama_ft.kinds.pairs import OPPOSITE, Pair

if TYPE_CHECKING:
    from ollama_ft.runtime.answers import Answer
    from ollama_ft.runtime.client import Ollama

OPTIONS = {"temperature": 0, "seed": 0, "num_ctx": 4096, "num_predict": 256}

Case = tuple[Pair, bool]  # a pair, and whether the first version's answer is shown first


def judge(
    db: Database,
    client: "Ollama",
    name: str,
    first: Version,
    second: Version,
    pairs: Sequence[Pair],
    emit: Emit,
) -> list[Judged]:
    """Both verdicts of the model `name` on every pair, in the pairs' order.

    Greedy, several at a time. A row is appended as each verdict comes, so what was judged before
    an interruption is not judged again; neither is the pair turned round. Two answers that are the
    same are a tie that nobody is asked about.

    Raises NotFound if the runtime has no such model.
    """
    digest = judge_digest(client, name)
    known = _known(db, first, second, digest)
    cases = [(pair, order) for pair in pairs if not pair.same for order in (True, False)]
    new = [case for case in cases if _key(case) not in known]
    done = 0

    def keep(place: int, answer: "Answer") -> None:
        nonlocal done
        done += 1
        row = _row(new[place], answer.text, first, second, name, digest)
        known[_key(new[place])] = append(db, row)
        emit(Count(name=name, done=done, total=len(new), unit="verdicts"))

    if new:
        client.ask_many(
            name,
            [messages(pair, first_shown_first=order) for pair, order in new],
            options=OPTIONS,
            think=False,
            format=SCHEMA,
            on_answer=keep,
        )
    return _assemble(known, pairs, turned=first.key > second.key)


def judged(
    db: Database, first: Version, second: Version, pairs: Sequence[Pair]
) -> tuple[str, list[Judged]]:
    """The judge that judged these two last, and what is stored of it; ("", []) if none did."""
    low, high = sorted((first.key, second.key))
    last = newest(db, Judgement, first=low, second=high)
    if last is None:
        return "", []
    known = _known(db, first, second, last.judge_digest)
    return last.judge, _assemble(known, pairs, turned=first.key > second.key)


def _assemble(
    known: dict[tuple[str, str], Judgement], pairs: Sequence[Pair], *, turned: bool
) -> list[Judged]:
    found = []
    for pair in pairs:
        rows = [known.get(_key((pair, order))) for order in (True, False)]
        if pair.same:
            found.append(Judged(pair=pair, verdicts=("tie", "tie"), reasons=("", "")))
        elif rows[0] and rows[1]:
            one, two = (_seen(row.verdict, turned) for row in rows if row)
            reasons = (rows[0].reason, rows[1].reason)
            found.append(Judged(pair=pair, verdicts=(one, two), reasons=reasons))
    return found


def judge_digest(client: "Ollama", name: str) -> str:
    """The manifest's digest of the judge at this runtime. Raises NotFound if it is not there."""
    from ollama_ft.runtime.names import Name

    wanted = Name.parse(name)
    for tag in client.tags():
        if Name.parse(tag.name) == wanted:
            return tag.digest
    raise NotFound(f"The runtime has no model {name!r} to judge with.", mend=f"ollama pull {name}")


def _known(
    db: Database, first: Version, second: Version, digest: str
) -> dict[tuple[str, str], Judgement]:
    low, high = sorted((first.key, second.key))
    rows = every(db, Judgement, first=low, second=high, judge_digest=digest)
    return {(row.question_digest, row.prompt_digest): row for row in rows}


def _key(case: Case) -> tuple[str, str]:
    pair, order = case
    return pair.question_digest, prompt_digest(messages(pair, first_shown_first=order))


def _row(
    case: Case, text: str, first: Version, second: Version, name: str, digest: str
) -> Judgement:
    pair, order = case
    low, high = sorted((first.key, second.key))
    verdict, reason = read(text, first_shown_first=order)
    return Judgement(
        first=low,
        second=high,
        question_digest=pair.question_digest,
        prompt_digest=_key(case)[1],
        judge=name,
        judge_digest=digest,
        shown_first=first.key if order else second.key,
        verdict=_seen(verdict, first.key > second.key),
        reason=reason,
    )


def _seen(verdict: str, turned: bool) -> str:
    # Rows hold a pair once, the lower id first, from whichever side it is looked at.
    return OPPOSITE.get(verdict, verdict) if turned else verdict
