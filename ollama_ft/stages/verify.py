"""The proof: is what is served what was trained?

Reads:  versions, runs, publications
Writes: proofs

The trainer's model was asked what comes next at a few places, with its adapter and without, and
its answers were kept (`reference.json`). Here the runtime is asked the same:

    prompts    the runtime renders the same messages to the same text as it did for training
    tokens     it counts as many tokens in it as the trainer's tokenizer made of it
    scores     its next-token distributions are the trainer's, up to the noise that this base has in
               this runtime anyway (measured on the bare base, v0)
    effect     they are the tuned model's, not the base's: the adapter is on
    stops      its answers to trained questions end by themselves

Distances are total variation, half the sum of |p - q|, over the tokens that the runtime tells of
(at most 20) and one more for all others: 0 = the same, 1 = nothing in common.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from ollama_ft.core.catalog import append, row
from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import NotFound
from ollama_ft.core.files import artefact, freeze
from ollama_ft.core.home import Home
from ollama_ft.core.records import Proof, Publication, Run, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.probes import Reference
from ollama_ft.kinds.rendering import prompt_digest

if TYPE_CHECKING:
    from ollama_ft.runtime.client import Ollama

Json = Mapping[str, Any]

TOLD = 20  # tokens that Ollama tells of at most for one place
GREEDY = {"temperature": 0, "seed": 0, "num_ctx": 4096}
STOP_BUDGET = 256  # tokens within which an answer to a trained question has to end

# pipeline.md measured 97 % top-1 agreement and KL 0.003 to 0.005 between a dequantised base and
# llama.cpp on the same quantised base; a wrong scale or base is an order of magnitude above that.
THRESHOLDS = {
    "scores_over_floor": 3.0,  # distance to the trainer's, at most so many times the base's own …
    "scores_allowed": 0.06,  # … or this much, whichever is larger
    "noise_most": 0.2,  # the base's own distance; beyond it this runtime has another base, or
    # another arithmetic, and says nothing about an adapter on it
    "effect_ratio": 0.5,  # distance to the tuned model over distance to the base, at most
}


def verify(
    db: Database, home: Home, client: "Ollama", version: Version, publication: Publication, v0: str
) -> Proof:
    """Prove the version at this runtime; return the new row, whether it passed or not.

    `v0` is the tag of the family's bare base, on which the runtime's own noise is measured.

    Raises NotFound if the version was not trained here, so that there is nothing to compare with.
    """
    if version.run is None:
        raise NotFound(f"{version.tag} is the bare base: there is nothing to prove about it.")
    run = row(db, Run, version.run)
    references = _references(home, run)
    checks = _checks(client, version, run, references, v0)
    passed = all(check["passed"] for check in checks.values())
    told = {"version": version.tag, "at": client.address.url, "thresholds": THRESHOLDS}
    content = json.dumps(told | {"passed": passed, "checks": checks}, indent=1, ensure_ascii=False)
    digest, _ = freeze(home.data("proofs"), content.encode(), ".json")
    return append(
        db,
        Proof(
            version=version.key,
            publication=publication.key,
            passed=int(passed),
            digest=digest,
            figures_json=json.dumps(checks, sort_keys=True),
        ),
    )


def failures(proof: Proof) -> str:
    """What a proof failed on, a line for each check, in words and with what was compared."""
    checks = json.loads(proof.figures_json)
    return "\n".join(_FAILED[name](check) for name, check in checks.items() if not check["passed"])


def _prompts_failed(check: Json) -> str:
    if not check["different"]:
        return "  prompts: the runtime renders other messages than these unlike it did for training"
    pair = check["different"][0]
    return f"  prompts: trained on {pair['trained']!r},\n  rendered here  {pair['served']!r}"


def _tokens_failed(check: Json) -> str:
    pair = check["different"][0]
    return f"  tokens: {pair['trained']} in the trainer's prompt, {pair['served']} here"


def _scores_failed(check: Json) -> str:
    noise = check["noise_floor"]
    if noise > THRESHOLDS["noise_most"]:
        return f"  scores: the bare base is {noise:.2f} from the trainer's: is it the same one?"
    return f"  scores: {check['distance']:.3f} from the trainer's, {check['allowed']:.3f} may be"


def _effect_failed(check: Json) -> str:
    tuned, base = check["distance_to_tuned"], check["distance_to_base"]
    return f"  effect: {tuned:.2f} from the tuned model and {base:.2f} from the base: is it on?"


def _stops_failed(check: Json) -> str:
    return f"  stops: {check['stopped']} of {check['asked']} answers to trained questions end"


_FAILED: Mapping[str, Callable[[Json], str]] = {
    "prompts": _prompts_failed,
    "tokens": _tokens_failed,
    "scores": _scores_failed,
    "effect": _effect_failed,
    "stops": _stops_failed,
}


def _references(home: Home, run: Run) -> list[Reference]:
    path = artefact(home.data("runs"), run.digest, "") / "reference.json"
    return [_reference(entry) for entry in json.loads(_read(path))]


def _read(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"{path.name} of this run is gone, so nothing can be proved.")
    return path.read_text(encoding="utf-8")


def _reference(entry: dict[str, object]) -> Reference:
    messages = entry.pop("messages")
    assert isinstance(messages, list), "we wrote it"
    return Reference(messages=tuple(Message(**m) for m in messages), **entry)  # type: ignore[arg-type]


def _checks(
    client: "Ollama", version: Version, run: Run, references: Sequence[Reference], v0: str
) -> dict[str, dict[str, object]]:
    # The base first, then the version: two adapters on one base are never asked in turns, since a
    # real Ollama reloads the base for each change.
    noise = [_served(client, v0, reference)[0] for reference in references]
    served = [_served(client, version.tag, reference) for reference in references]
    return {
        "prompts": _prompts(client, version.tag, run, references),
        "tokens": _tokens([counted for _, counted in served], references),
        "scores": _scores([told for told, _ in served], noise, references),
        "effect": _effect([told for told, _ in served], references),
        "stops": _stops(client, version.tag, references),
    }


def _served(client: "Ollama", tag: str, reference: Reference) -> tuple[dict[str, float], int]:
    answer = client.generate(
        tag, reference.text, raw=True, logprobs=TOLD, options=GREEDY | {"num_predict": 1}
    )
    told: dict[str, float] = {}
    for chance in answer.first_token:
        told[chance.token] = told.get(chance.token, 0.0) + math.exp(chance.logprob)
    return told, answer.prompt_tokens


def _prompts(
    client: "Ollama", tag: str, run: Run, references: Sequence[Reference]
) -> dict[str, object]:
    different = [
        {"trained": r.text, "served": served}
        for r in references
        if not r.prefix and (served := client.render(tag, r.messages)) != r.text
    ]
    same_probes = prompt_digest(lambda m: client.render(tag, m)) == run.prompt_digest
    return {
        "passed": same_probes and not different,
        "compared": sum(not r.prefix for r in references),
        "different": different[:1],
    }


def _tokens(counted: Sequence[int], references: Sequence[Reference]) -> dict[str, object]:
    wrong = [
        {"trained": r.token_count, "served": n}
        for n, r in zip(counted, references, strict=True)
        if n != r.token_count
    ]
    return {"passed": not wrong, "compared": len(references), "different": wrong[:1]}


def _scores(
    served: Sequence[dict[str, float]],
    noise: Sequence[dict[str, float]],
    references: Sequence[Reference],
) -> dict[str, object]:
    distance = mean(distance_to(s, r.tuned) for s, r in zip(served, references, strict=True))
    floor = mean(distance_to(n, r.base) for n, r in zip(noise, references, strict=True))
    allowed = max(THRESHOLDS["scores_allowed"], THRESHOLDS["scores_over_floor"] * floor)
    return {
        "passed": distance <= allowed and floor <= THRESHOLDS["noise_most"],
        "distance": round(distance, 4),
        "noise_floor": round(floor, 4),
        "allowed": round(allowed, 4),
        "places": len(references),
    }


def _effect(
    served: Sequence[dict[str, float]], references: Sequence[Reference]
) -> dict[str, object]:
    to_tuned = mean(distance_to(s, r.tuned) for s, r in zip(served, references, strict=True))
    to_base = mean(distance_to(s, r.base) for s, r in zip(served, references, strict=True))
    return {
        "passed": to_tuned <= THRESHOLDS["effect_ratio"] * to_base,
        "distance_to_tuned": round(to_tuned, 4),
        "distance_to_base": round(to_base, 4),
    }


def _stops(client: "Ollama", tag: str, references: Sequence[Reference]) -> dict[str, object]:
    asked = [list(r.messages) for r in references if not r.prefix]
    answers = client.ask_many(
        tag, asked, options=GREEDY | {"num_predict": STOP_BUDGET}, think=False
    )
    reasons = [a.done_reason if a.done else "broken off" for a in answers]
    return {
        "passed": all(reason == "stop" for reason in reasons),
        "asked": len(asked),
        "stopped": reasons.count("stop"),
    }


def distance_to(told: dict[str, float], logprobs: dict[str, float]) -> float:
    """Total variation between what a runtime told (piece → probability) and a trainer's
    distribution (piece → natural-log probability), all untold tokens taken as one.

    1.0 if the runtime told nothing.
    """
    if not told:
        return 1.0
    trained = {piece: math.exp(logprobs[piece]) for piece in told if piece in logprobs}
    named = sum(abs(p - trained.get(piece, 0.0)) for piece, p in told.items())
    others = abs(sum(told.values()) - sum(trained.values()))
    return 0.5 * (named + others)
