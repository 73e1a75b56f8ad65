"""What `new`, `train` and `eval` print: before and after, the proof, and a few answers."""

import json
from typing import TYPE_CHECKING, Any

import click

from ollama_ft.cli.app import Context
from ollama_ft.cli.tables import cut, harmless, number, print_json, share, table
from ollama_ft.core.catalog import row
from ollama_ft.core.home import Home
from ollama_ft.core.judged_records import Verdict
from ollama_ft.core.records import Evaluation, Proof, Version

if TYPE_CHECKING:
    from ollama_ft.core.sqlite import Database
    from ollama_ft.loop import Outcome

SHOWN = 3  # questions whose answers are printed side by side
ANSWER = 160  # characters of each of these


def tell_outcome(context: Context, outcome: "Outcome", as_json: bool) -> None:
    """Print the outcome. Raises GateFailed or NotEnoughData if the gate did not let it pass."""
    from ollama_ft.stages.gate import refusal

    if as_json:
        print_json(outcome_json(context.db, outcome))
    else:
        print_outcome(context.db, context.home, outcome)
    live = row(context.db, Version, outcome.verdict.against)
    refused = refusal(outcome.verdict, outcome.version, live)
    if refused and not outcome.promoted:
        raise refused


def print_outcome(db: "Database", home: Home, outcome: "Outcome") -> None:
    """Print the version's figures beside the base's and the former live version's."""
    former = row(db, Version, outcome.before.version)
    _print_answers(db, home, outcome)
    columns = [("base", outcome.base)]
    if former.number:
        columns.append((f"v{former.number}", outcome.before))
    columns.append((f"v{outcome.version.number}", outcome.after))
    table(
        ["", *(name for name, _ in columns)],
        [
            ["questions never trained on, right", *(_right(e) for _, e in columns)],
            ["answers that stop by themselves", *(_stops(e) for _, e in columns)],
            ["perplexity of general text", *(number(e.perplexity) for _, e in columns)],
        ],
        right=[name for name, _ in columns],
    )
    click.echo(f"\nproof     {proof_line(outcome.proof)}")
    print_verdict(outcome.verdict)
    if outcome.promoted:
        click.echo(f"live      {outcome.version.tag} (before: {former.tag})")
        click.echo("way back  ollama-ft rollback")
    elif outcome.verdict.outcome == "pass":
        click.echo(f"kept      {outcome.version.tag} is a candidate; {former.tag} stays live")
        click.echo(f"next      ollama-ft promote {outcome.version.tag}")


def print_verdict(verdict: Verdict) -> None:
    """Print what the gate said, and what that rests on."""
    from ollama_ft.stages.gate import words

    said, lines = words(verdict)
    click.echo(f"gate      {verdict.outcome}: {said}")
    for line in lines:
        click.echo(f"          {line}")


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as an object, with every figure."""
    body = {
        "outcome": verdict.outcome,
        "gate": verdict.gate,
        "gate_digest": verdict.gate_digest,
        "accepted": json.loads(verdict.accepted_json),
        "digest": verdict.digest,
    }
    figures: dict[str, Any] = json.loads(verdict.figures_json)
    return body | figures


def _print_answers(db: "Database", home: Home, outcome: "Outcome") -> None:
    from ollama_ft.stages.evaluate import answers

    base = {a.question_digest: a for a in answers(home, outcome.base)}
    for answered in answers(home, outcome.after)[:SHOWN]:
        click.echo(f"Q     {harmless(answered.question)}")
        click.echo(f"base  {cut(base[answered.question_digest].answer, ANSWER)}")
        click.echo(f"v{outcome.version.number:<4} {cut(answered.answer, ANSWER)}\n")


def _right(evaluation: Evaluation) -> str:
    return share(evaluation.right, evaluation.questions)


def _stops(evaluation: Evaluation) -> str:
    return f"{json.loads(evaluation.metrics_json)['stops']:.0%}"


def proof_line(proof: Proof) -> str:
    """The proof in one line: each check with the figure that matters."""
    checks = json.loads(proof.figures_json)
    scores, stops = checks["scores"], checks["stops"]
    effect = checks["effect"]
    parts = [
        f"{'passed' if proof.passed else 'FAILED'}: prompts equal {checks['prompts']['passed']}",
        f"token counts equal {checks['tokens']['passed']} ({checks['tokens']['compared']} places)",
        f"distance to the trainer {scores['distance']:.3f} "
        f"(this base's own noise {scores['noise_floor']:.3f})",
        f"to the base {effect['distance_to_base']:.2f}",
        f"stops {stops['stopped']}/{stops['asked']}",
    ]
    return " · ".join(parts).replace(" True", "").replace("equal False", "DIFFER")


def outcome_json(db: "Database", outcome: "Outcome") -> dict[str, Any]:
    """The outcome as the object that --json prints."""
    former = row(db, Version, outcome.before.version)
    return {
        "version": outcome.version.tag,
        "digest": outcome.version.digest,
        "live": outcome.promoted,
        "proof": json.loads(outcome.proof.figures_json),
        "base": evaluation_json(None, outcome.base),
        "before": evaluation_json(former, outcome.before),
        "after": evaluation_json(outcome.version, outcome.after),
        "verdict": verdict_json(outcome.verdict),
    }


def evaluation_json(version: Version | None, evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as an object."""
    return {
        "version": version.tag if version else None,
        "questions": evaluation.questions,
        "right": evaluation.right,
        "perplexity": evaluation.perplexity,
        "metrics": json.loads(evaluation.metrics_json),
        "suite": evaluation.suite_digest,
        "suite_name": evaluation.suite or "test",
        "digest": evaluation.digest,
    }


def print_evaluation(
    version: Version, evaluation: Evaluation, measured: dict[str, float | None]
) -> None:
    """Print one version's scores, and what was measured on request."""
    suite = f", {evaluation.suite}" if evaluation.suite else ""
    click.echo(f"{version.tag}{suite}: {_right(evaluation)} right")
    for name, value in json.loads(evaluation.metrics_json).items():
        click.echo(f"  {name:<17} {value}")
    click.echo(f"  perplexity of general text {number(evaluation.perplexity)}")
    for name, found in measured.items():
        click.echo(
            f"  {name:<17} {'nothing here to take it from' if found is None else f'{found:.4g}'}"
        )
