"""The canary: did the runtime, or the base in it, change under us?

Reads:  versions, canaries
Writes: canaries

A version and its bare base are asked fixed general prompts once, and what they say is kept with the
runtime's version and the base's digest. Later the same is asked again:

    runtime, base   what the runtime says about itself
    prompts         the text that it makes of the same messages
    scores          its next-token distributions: total variation to the kept ones
    answers         the greedy answers

The runtime's own noise is measured on the base first, by asking every prompt again after another
one: what differs then differs by itself. `scores` may differ by a few times that, and no more.

How far the version is from the base on these prompts, which nobody trained on, is kept as well: KL
over the tokens that either told of and one more for all others. A token that a runtime does not
tell of is given the largest chance that it can have, so both figures err to the small side.
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from statistics import mean
from typing import TYPE_CHECKING

from ollama_ft.core.catalog import append, newest
from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import NotFound
from ollama_ft.core.files import artefact, freeze
from ollama_ft.core.home import Home
from ollama_ft.core.records import Version
from ollama_ft.core.sqlite import Database
from ollama_ft.core.watch_records import Canary

if TYPE_CHECKING:
    from ollama_ft.runtime.client import Ollama

PROMPTS = (
    "Name the capital of France.",
    "Write one sentence about the sea.",
    "What is seven times eight?",
    "Explain in a few words what a bicycle is.",
    "List three colours.",
    "Translate 'good morning' into Spanish.",
    "用一句话介绍一下月亮。",
    "一年有几个月？",
)
TOLD = 20  # tokens that Ollama tells of at most
ANSWER = 12  # tokens of each greedy answer
GREEDY = {"temperature": 0, "seed": 0, "num_ctx": 4096}
OVER_NOISE = 3.0  # a distance of so many times the runtime's own noise is no change …
TINY = 1e-6  # a chance below this is taken for this
ALLOWED = 0.02  # … nor is this much: a third of what the proof allows between two programs


@dataclass(frozen=True, kw_only=True)
class Place:
    """A runtime as it tells of itself."""

    runtime: str
    version: str
    address: str  # "embedded" for our own, which has another port each time


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one model made of one prompt."""

    text: str  # as it was rendered
    told: dict[str, float]  # the likeliest first tokens and their probabilities
    answer: str


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A canary asked again: what is different, in words; `sings` if nothing that matters is."""

    sings: bool
    changes: tuple[str, ...]
    notes: tuple[str, ...]  # what changed without any effect
    distance: float
    allowed: float
    answers_equal: int
    prompts: int


def place(client: "Ollama") -> Place:
    """Who answers here. The embedded runtime's version has llama.cpp's package behind it."""
    said = client.version()
    if not client.is_embedded():
        return Place(runtime="ollama", version=said, address=client.address.url)
    with suppress(PackageNotFoundError):  # it runs in another environment
        said = f"{said}, xllamacpp {installed('xllamacpp')}"
    return Place(runtime="embedded", version=said, address="embedded")


def planted(db: Database, version: Version, at: Place) -> Canary | None:
    """The version's newest canary at this runtime, whatever version the runtime had then."""
    return newest(db, Canary, version=version.key, runtime=at.runtime, address=at.address)


def plant(
    db: Database, home: Home, client: "Ollama", version: Version, v0: str, at: Place
) -> Canary:
    """Ask the base and the version, keep what they say, and return the new row."""
    texts = [client.render(v0, _asking(prompt)) for prompt in PROMPTS]
    base = [_told(client, v0, text) for text in texts]
    # Another prompt lies between each first and second time, so that nothing is merely remembered.
    again = [_told(client, v0, text) for text in texts]
    served = [_ask(client, version.tag, prompt) for prompt in PROMPTS]
    kept = {"prompts": PROMPTS, "base": base, "version": [asdict(said) for said in served]}
    digest, _ = freeze(
        home.data("canaries"), json.dumps(kept, ensure_ascii=False, indent=1).encode(), ".json"
    )
    figures = {
        "noise": round(max(distance(b, a) for b, a in zip(base, again, strict=True)), 6),
        "kl_to_base": round(mean(kl(s.told, b) for s, b in zip(served, base, strict=True)), 5),
    }
    return append(
        db,
        Canary(
            version=version.key,
            runtime=at.runtime,
            runtime_version=at.version,
            address=at.address,
            base_digest=_base_digest(client, version.tag),
            digest=digest,
            figures_json=json.dumps(figures, sort_keys=True),
        ),
    )


def replay(home: Home, client: "Ollama", version: Version, known: Canary, at: Place) -> Heard:
    """Ask the version the canary's prompts again, and say what is different.

    Raises NotFound if the canary's file is gone, RuntimeRefused if the version is not there.
    """
    path = artefact(home.data("canaries"), known.digest, ".json")
    if not path.is_file():
        raise NotFound(f"The canary's file {path.name} is gone.", mend="ollama-ft doctor")
    kept = json.loads(path.read_text(encoding="utf-8"))
    before = [Said(**entry) for entry in kept["version"]]
    now = [_ask(client, version.tag, prompt) for prompt in kept["prompts"]]
    base = _base_digest(client, version.tag)
    return judge(known, before, now, at.version, base)


def judge(
    known: Canary, before: Sequence[Said], now: Sequence[Said], runtime_version: str, base: str
) -> Heard:
    """Compare two times; pure."""
    noise = json.loads(known.figures_json)["noise"]
    allowed = max(ALLOWED, OVER_NOISE * noise)
    far = mean(distance(b.told, n.told) for b, n in zip(before, now, strict=True))
    rendered = sum(b.text != n.text for b, n in zip(before, now, strict=True))
    equal = sum(b.answer == n.answer for b, n in zip(before, now, strict=True))
    changes, notes = [], []
    if base != known.base_digest:
        changes.append(f"the base was {known.base_digest[7:19]}, it is {base[7:19] or 'unknown'}")
    if rendered:
        changes.append(f"{rendered} of {len(now)} prompts are rendered differently")
    if far > allowed:
        changes.append(f"next-token chances moved by {far:.4f}, where {allowed:.4f} is noise")
    if runtime_version != known.runtime_version:
        notes.append(f"the runtime was {known.runtime_version}, it is {runtime_version}")
    if equal < len(now):
        notes.append(f"{len(now) - equal} of {len(now)} greedy answers are worded differently")
    return Heard(
        sings=not changes,
        changes=tuple(changes),
        notes=tuple(notes),
        distance=far,
        allowed=allowed,
        answers_equal=equal,
        prompts=len(now),
    )


def distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Total variation of two tellings of likeliest tokens: 0 = the same, 1 = nothing in common."""
    p, q = _joined(one, other)
    return 0.5 * sum(abs(a - b) for a, b in zip(p, q, strict=True))


def kl(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """KL(one ‖ other) of two tellings, in nats."""
    p, q = _joined(one, other)
    return max(0.0, sum(a * math.log(a / max(b, TINY)) for a, b in zip(p, q, strict=True) if a > 0))


def _joined(
    one: Mapping[str, float], other: Mapping[str, float]
) -> tuple[list[float], list[float]]:
    """Both over the tokens that either tells of, and one more for all others."""
    tokens = sorted(one.keys() | other.keys())
    return _spread(one, tokens), _spread(other, tokens)


def _spread(told: Mapping[str, float], tokens: Sequence[str]) -> list[float]:
    # An untold token has at most the least told chance, and all of them at most what is left.
    left = max(0.0, 1 - sum(told.values()))
    untold = sum(token not in told for token in tokens)
    most = min(min(told.values(), default=0.0), left / untold) if untold else 0.0
    return [*(told.get(token, most) for token in tokens), max(0.0, left - most * untold)]


def _ask(client: "Ollama", tag: str, prompt: str) -> Said:
    messages = _asking(prompt)
    text = client.render(tag, messages)
    answer = client.chat(tag, messages, options=GREEDY | {"num_predict": ANSWER}, think=False)
    return Said(text=text, told=_told(client, tag, text), answer=answer.text)


def _asking(prompt: str) -> list[Message]:
    return [Message(role="user", content=prompt)]


def _told(client: "Ollama", tag: str, text: str) -> dict[str, float]:
    answer = client.generate(
        tag, text, raw=True, logprobs=TOLD, options=GREEDY | {"num_predict": 1}
    )
    told: dict[str, float] = {}
    for chance in answer.first_token:
        told[chance.token] = told.get(chance.token, 0.0) + math.exp(chance.logprob)
    return told


def _base_digest(client: "Ollama", tag: str) -> str:
    return client.show(tag).base_blob
