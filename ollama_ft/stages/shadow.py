"""The shadow: logged questions asked again of two versions, their answers side by side.

Reads:  exchanges, messages, feedback (the log)
Writes: shadows

First all of one version, then all of the other: a runtime that swaps adapters is not made to do so
for each question. Both are asked greedily, so that what differs is the version, not the dice.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append
from ollama_ft.core.conversation import ROLES, Conversation, Message, normalise
from ollama_ft.core.errors import NotEnoughData
from ollama_ft.core.events import Count, Emit
from ollama_ft.core.files import freeze
from ollama_ft.core.home import Home
from ollama_ft.core.logbook import conversation
from ollama_ft.core.records import Version
from ollama_ft.core.sqlite import Database
from ollama_ft.core.watch_records import Shadow
from ollama_ft.kinds.metrics.matching import token_f1

if TYPE_CHECKING:
    from ollama_ft.runtime.client import Ollama

GREEDY = {"temperature": 0, "seed": 0, "num_ctx": 4096, "num_predict": 256}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A logged question with what came before it, and the answer that somebody would have liked."""

    exchange: int
    messages: tuple[Message, ...]
    wanted: str  # a correction, or an answer that got a thumbs-up; "" if neither is known


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One question and two answers. Likeness is token F1: 1.0 = the same words."""

    exchange: int
    question: str
    live: str
    candidate: str
    agreed: bool
    likeness: float
    wanted: str
    live_likeness: float | None  # of the answer to the wanted one; None if none is known
    candidate_likeness: float | None
    stopped: bool  # whether the candidate's answer ended by itself


def choose(log: Database, family: str, since: str, most: int) -> list[Asked]:
    """The newest different questions of the family since an ISO time, oldest first; text only.

    Raises NotEnoughData if there is none.
    """
    rows = log.execute(
        """
        select max(id), prompt from exchanges
        where family = ? and at >= ? and status = 'complete' and context_json = '[]'
        group by prompt order by 1 desc
        """,
        [family, since],
    )
    asked = (_asked(log, *found) for found in rows)
    plain = list(islice((a for a in asked if a is not None), most))
    if not plain:
        raise NotEnoughData(
            f"Nothing was asked of {family} since {since} that can be asked again.",
            mend="look further back: ollama-ft shadow v3 --since 7d",
        )
    return plain[::-1]


def replay(
    client: "Ollama", live: Version, candidate: Version, asked: Sequence[Asked], emit: Emit
) -> list[Pair]:
    """Both versions' answers, one version after the other."""
    first = _answers(client, live.tag, asked, emit)
    second = _answers(client, candidate.tag, asked, emit)
    return [
        _pair(question, one, two, stopped)
        for question, (one, _), (two, stopped) in zip(asked, first, second, strict=True)
    ]


def record(
    db: Database, home: Home, live: Version, candidate: Version, pairs: Sequence[Pair]
) -> Shadow:
    """Keep the pairs, and append the row that counts them."""
    content = json.dumps([asdict(pair) for pair in pairs], ensure_ascii=False, indent=1)
    digest, _ = freeze(home.data("shadows"), content.encode(), ".json")
    return append(
        db,
        Shadow(
            family=candidate.family,
            live=live.key,
            candidate=candidate.key,
            questions=len(pairs),
            agreed=sum(pair.agreed for pair in pairs),
            digest=digest,
            figures_json=json.dumps(summary(pairs), sort_keys=True),
        ),
    )


def summary(pairs: Sequence[Pair]) -> dict[str, object]:
    """Means over the pairs; who is nearer to the wanted answers, where any are known."""
    known = [p for p in pairs if p.live_likeness is not None and p.candidate_likeness is not None]
    ahead = sum((p.candidate_likeness or 0.0) > (p.live_likeness or 0.0) for p in known)
    behind = sum((p.candidate_likeness or 0.0) < (p.live_likeness or 0.0) for p in known)
    return {
        "likeness": round(sum(p.likeness for p in pairs) / len(pairs), 4),
        "stopped": sum(p.stopped for p in pairs),
        "wanted": len(known),
        "candidate_nearer": ahead,
        "live_nearer": behind,
    }


def _asked(log: Database, exchange: int, prompt: int) -> Asked | None:
    turns = conversation(log, prompt)
    if any(turn.extra or turn.role not in ROLES for turn in turns) or turns[-1].role != "user":
        return None  # tools, images: nothing that can be asked again as text
    wanted = log.execute(
        """
        select case rating when 'corrected' then correction when 'up' then answer else '' end
        from exchanges_view where prompt = ? and rating is not null order by rated_at desc limit 1
        """,
        [prompt],
    ).fetchone()
    return Asked(
        exchange=exchange,
        messages=tuple(Message(role=t.role, content=t.content) for t in turns),
        wanted=wanted[0] if wanted else "",
    )


def _answers(
    client: "Ollama", tag: str, asked: Sequence[Asked], emit: Emit
) -> list[tuple[str, bool]]:
    done = 0

    def count(place: int, answer: object) -> None:
        nonlocal done
        done += 1
        emit(Count(name=tag, done=done, total=len(asked), unit="questions"))

    served = client.ask_many(
        tag, [a.messages for a in asked], options=GREEDY, think=False, on_answer=count
    )
    return [(a.text.strip(), a.done and a.done_reason == "stop") for a in served]


def _pair(asked: Asked, live: str, candidate: str, stopped: bool) -> Pair:
    wanted = asked.wanted
    return Pair(
        exchange=asked.exchange,
        question=asked.messages[-1].content,
        live=live,
        candidate=candidate,
        agreed=normalise(live) == normalise(candidate),
        likeness=_likeness(candidate, live),
        wanted=wanted,
        live_likeness=_likeness(live, wanted) if wanted else None,
        candidate_likeness=_likeness(candidate, wanted) if wanted else None,
        stopped=stopped,
    )


def _likeness(answer: str, other: str) -> float:
    turn = Message(role="assistant", content=other)
    return round(token_f1(answer, Conversation(messages=(turn,))), 4)
