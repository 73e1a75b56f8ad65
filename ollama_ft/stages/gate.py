"""The gate: is a version good enough to replace the live one?

Reads:  evaluations, datasets, verdicts
Writes: verdicts

Both versions' stored answers to the same suites are paired question by question; the decision
itself is kinds/gate.py. A verdict is a row with every figure, and the same inputs give the same
row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ollama_ft.core.catalog import append, newest
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import BadInput, FtError, GateFailed, NotEnoughData, NotFound
from ollama_ft.core.files import artefact, digest_bytes
from ollama_ft.core.gates import GateRules
from ollama_ft.core.home import Home
from ollama_ft.core.judged_records import Verdict
from ollama_ft.core.records import Dataset, Evaluation, Version
from ollama_ft.core.sqlite import Database
from ollama_ft.kinds.gate import Asked, Flip, Pair, decide
from ollama_ft.kinds.gate_words import headline, sentences
from ollama_ft.kinds.suites import Suite, cluster_of, question_id


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A gate's rules under the name they were asked for, and the flips that somebody accepts."""

    name: str
    rules: GateRules
    accepted: Mapping[str, str]  # question id → reason


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One suite with both versions' evaluations of it."""

    suite: Suite
    before: Evaluation
    after: Evaluation


def judge(
    db: Database,
    home: Home,
    gate: Gate,
    version: Version,
    against: Version,
    trials: Sequence[Trial],
) -> Verdict:
    """Decide whether `version` may replace `against`; return the verdict's row, an earlier one if
    it rests on the same answers, rules and acceptances.

    Raises BadInput if an accepted question is none that flipped, or the primary metric is none;
    no row is written then.
    """
    digest = _digest(gate, version, against, trials)
    if found := newest(db, Verdict, version=version.key, digest=digest):
        return found
    rules = gate.rules.for_rival(bare=against.run is None)
    learned = _learned(db, home, against)
    asked = [_asked(home, rules, trial, learned) for trial in trials]
    ruling = decide(rules, asked, gate.accepted)
    _check_accepted(gate, ruling.flips)
    figures = {
        "headline": headline(ruling, _short(version), _short(against)),
        "sentences": sentences(ruling, _short(version), _short(against)),
        "suites": {
            t.suite.name: [t.before.right, t.after.right, t.after.questions] for t in trials
        },
    }
    return append(
        db,
        Verdict(
            version=version.key,
            against=against.key,
            gate=gate.name,
            gate_digest=gate.rules.digest,
            outcome=ruling.outcome,
            digest=digest,
            accepted_json=json.dumps(dict(gate.accepted), ensure_ascii=False, sort_keys=True),
            figures_json=json.dumps(figures | asdict(ruling), ensure_ascii=False, sort_keys=True),
        ),
    )


def words(verdict: Verdict) -> tuple[str, list[str]]:
    """The verdict in one sentence, and what it rests on, line by line."""
    figures = json.loads(verdict.figures_json)
    return figures["headline"], figures["sentences"]


def refusal(verdict: Verdict, version: Version, live: Version) -> FtError | None:
    """The error that a verdict other than "pass" is: GateFailed or NotEnoughData; None for one."""
    if verdict.outcome == "pass":
        return None
    kind = GateFailed if verdict.outcome == "fail" else NotEnoughData
    said, _ = words(verdict)
    return kind(
        f"{said} {live.tag} stays live; {version.tag} is kept.",
        mend=f"ollama-ft diff {live.tag} {version.tag}; or, against the gate's word: "
        f'ollama-ft promote {version.tag} --force --reason "…"',
    )


def forced(reason: str, outcome: str) -> str:
    """How the journal tells of a promotion against the gate's word."""
    return f"forced, though the gate said {outcome}: {reason}"


def _digest(gate: Gate, version: Version, against: Version, trials: Sequence[Trial]) -> str:
    content = {
        "gate": gate.rules.digest,
        "accepted": dict(gate.accepted),
        "version": version.digest,
        "against": against.digest,
        "trials": [[t.suite.digest, t.suite.kind, t.before.digest, t.after.digest] for t in trials],
    }
    return digest_bytes(json.dumps(content, sort_keys=True).encode())


def _learned(db: Database, home: Home, version: Version) -> frozenset[tuple[bytes, bytes]]:
    """The (question, answer) keys of the data that a version was made with, test rows included.

    Empty for the bare base, and for a version that was made elsewhere: its rows stayed there.
    """
    if version.dataset is None:
        return frozenset()
    dataset = newest(db, Dataset, id=version.dataset)
    assert dataset is not None, "a foreign key guarantees that it is there"
    path = artefact(home.data("datasets"), dataset.digest, ".jsonl")
    if not path.is_file():
        return frozenset()
    rows = (json.loads(line) for line in _read(path).split("\n") if line)
    return frozenset((row.prompt_key, row.answer_key) for row in map(Conversation.from_json, rows))


def _asked(
    home: Home, rules: GateRules, trial: Trial, learned: frozenset[tuple[bytes, bytes]]
) -> Asked:
    before, after = _answers(home, trial.before), _answers(home, trial.after)
    return Asked(
        name="test questions" if trial.suite.name == "test" else trial.suite.name,
        kind=trial.suite.kind,
        pairs=tuple(
            Pair(
                id=question_id(question.digest),
                question=question.question,
                cluster=cluster_of(question),
                right_before=before[question.digest]["right"],
                right_after=after[question.digest]["right"],
                said_before=before[question.digest]["scores"]["contains"] >= 1,
                said_after=after[question.digest]["scores"]["contains"] >= 1,
                score_before=_score(rules, before[question.digest]),
                score_after=_score(rules, after[question.digest]),
                new=bool(learned)
                and trial.suite.name == "test"
                and (question.prompt_key, question.answer_key) not in learned,
            )
            for question in trial.suite.questions
        ),
    )


def _answers(home: Home, evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    path = artefact(home.data("evaluations"), evaluation.digest, ".json")
    return {entry["question_digest"]: entry for entry in json.loads(_read(path))}


def _read(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"{path} is gone, so nothing can be decided.", mend="ollama-ft doctor")
    return path.read_text(encoding="utf-8")


def _score(rules: GateRules, answered: Mapping[str, Any]) -> float:
    if rules.primary == "right":
        return float(answered["right"])
    if rules.primary not in answered["scores"]:
        known = ", ".join(["right", *sorted(answered["scores"])])
        raise BadInput(f"The gate's primary metric {rules.primary!r} is none of: {known}.")
    # An answer that does not stop by itself is a failure, whatever it scores.
    return float(answered["scores"][rules.primary]) if answered["stopped"] else 0.0


def _check_accepted(gate: Gate, flips: Sequence[Flip]) -> None:
    for name in gate.accepted:
        if name not in {flip.id for flip in flips}:
            known = ", ".join(flip.id for flip in flips) or "none"
            raise BadInput(
                f"--accept {name}: no must-not-forget question of that name was lost. "
                f"Lost: {known}."
            )


def _short(version: Version) -> str:
    return f"v{version.number}" if version.number else "v0 (the bare base)"
