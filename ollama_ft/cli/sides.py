"""How a comparison is printed: counts first, then what judge and people say, then the answers."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ollama_ft.cli.tables import console, harmless, table

if TYPE_CHECKING:
    from rich.table import Table

    from ollama_ft.compare import Comparison
    from ollama_ft.kinds.judging import Judged, Verdict
    from ollama_ft.kinds.pairs import Pair
    from ollama_ft.kinds.ratings import Human

WIDTH = 100  # columns where the output is no terminal and COLUMNS does not say
NARROW = 60  # columns under which two answers do not fit beside each other


def show(found: "Comparison", everything: bool) -> None:
    """Print the comparison for a terminal."""
    click.echo(f"{len(found.pairs)} questions asked of both\n")
    table(["", "QUESTIONS", ""], _counts(found), right=["QUESTIONS"])
    for line in _signals(found):
        click.echo(line)
    shown = [pair for pair in found.pairs if everything or _winner(found, pair) != "tie"]
    hidden = len(found.pairs) - len(shown)
    for pair in shown:
        _show_pair(found, pair)
    if hidden:
        click.echo(f"\n{hidden} {'draw is' if hidden == 1 else 'draws are'} not shown: --all")


def _counts(found: "Comparison") -> list[list[str]]:
    counts, one, two = found.counts, found.first.tag, found.second.tag
    return [
        [f"{one} won", str(counts.first), f"right where {two} is wrong"],
        [f"{two} won", str(counts.second), f"right where {one} is wrong"],
        ["both right", str(counts.both_right), ""],
        ["both wrong", str(counts.both_wrong), ""],
    ]


def _signals(found: "Comparison") -> Iterator[str]:
    """What judge and people say, in lines; each with what it rests on."""
    one, two = found.first.tag, found.second.tag
    if found.judge:
        yield from _of_judge(found.judge, one, two, found.counts.first + found.counts.second)
    if any(found.people):
        first, second, neither = found.preferred
        yield f"\npeople preferred {one} {_times(first)}, {two} {_times(second)}, neither {neither}"
    for tag, human, blend in zip((one, two), found.people, found.blends, strict=True):
        if human and blend:
            yield f"  {tag}: {blend_line(blend.automatic, human, len(found.pairs))}"
    if found.agreement:
        alphas = ", ".join(f"{name} {alpha:.2f}" for name, alpha in found.agreement.items())
        yield f"  raters agree (Krippendorff's alpha, 1 = fully): {alphas}"


def _of_judge(judge: "Verdict", one: str, two: str, decided: int) -> Iterator[str]:
    yield f"\njudge {judge.judge}, each pair in both orders"
    yield f"  {one} won {judge.first}, {two} won {judge.second}, ties {judge.ties}" + (
        f" ({judge.swayed} of them changed with the order)" if judge.swayed else ""
    )
    if judge.none:
        yield f"  {judge.none} without a verdict that could be read"
    if not judge.fit:
        yield "  most of its verdicts hang on the order alone: it is no judge of these answers"
    elif judge.win_rate is not None:
        rate = "cannot be told" if judge.adjusted is None else f"{judge.adjusted:.0%}"
        yield f"  win rate of {two}: {judge.win_rate:.0%}; were both equally long: {rate}"
    yield (
        f"  of the {decided} questions that the references decide, it agrees on {judge.agrees} "
        f"and says the opposite on {judge.disagrees}"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def blend_line(automatic: float, human: "Human", asked: int) -> str:
    """Both parts and their blend, and what they rest on; `asked` questions are the automatic's."""
    from ollama_ft.kinds.ratings import Blend

    blend = Blend(automatic=automatic, human=human.score)
    raters = "one person" if human.raters == 1 else f"{human.raters} people"
    return (
        f"automatic {blend.automatic:.0f} ({asked} questions) · human {blend.human:.0f} "
        f"({human.questions} questions, {raters}: relevance {human.relevance:.1f}, "
        f"fluency {human.fluency:.1f}, expertise {human.expertise:.1f}) · "
        f"40 % automatic and 60 % human: {blend.score:.0f}"
    )


def _winner(found: "Comparison", pair: "Pair") -> str:
    """Who won a question: by the references; where they see a draw, by a judge that is one."""
    judged = _judged(found, pair) if found.judge and found.judge.fit else None
    if pair.winner == "tie" and judged and judged.winner in ("first", "second"):
        return judged.winner
    return pair.winner


def _judged(found: "Comparison", pair: "Pair") -> "Judged | None":
    digest = pair.question_digest
    return next((one for one in found.judged if one.pair.question_digest == digest), None)


def _show_pair(found: "Comparison", pair: "Pair") -> None:
    out = console()
    out.width = _width()
    with out.capture() as capture:
        out.print(_grid(found, pair, out.width))
    click.echo(f"\nQ  {harmless(pair.question)}")
    if pair.expected:
        click.echo(f"=  {harmless(pair.expected)}")
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _width() -> int:
    # COLUMNS, else the terminal's own, else WIDTH.
    return shutil.get_terminal_size((WIDTH, 24)).columns


def _grid(found: "Comparison", pair: "Pair", width: int) -> "Table":
    from rich.table import Table
    from rich.text import Text

    winner, judged = _winner(found, pair), _judged(found, pair)
    cells = []
    for side, version, answer, right in (
        ("first", found.first, pair.first, pair.first_right),
        ("second", found.second, pair.second, pair.second_right),
    ):
        style = "" if winner == "tie" else ("green" if winner == side else "red")
        head = f"{'✓' if right else '✗'} {version.tag}"
        head += "  judge's choice" if judged and judged.winner == side else ""
        cells.append(Text.assemble((head, f"bold {style}"), "\n", (harmless(answer), style)))
    grid = Table.grid(padding=(0, 3, 0, 0), expand=True)
    beside = width >= NARROW
    for _ in range(2 if beside else 1):
        grid.add_column(ratio=1, overflow="fold")
    for row in [cells] if beside else [[cell] for cell in cells]:
        grid.add_row(*row)
    return grid


def as_markdown(found: "Comparison", everything: bool) -> str:
    """The comparison as Markdown: the counts, the other signals, a table of answers."""
    lines = ["| | questions |", "|---|---:|"]
    lines += [f"| {what} | {n} |" for what, n, _ in _counts(found)]
    lines += ["", *(f"{line.strip()}  " for line in _signals(found) if line.strip()), ""]
    lines += [
        f"| question | reference | {found.first.tag} | {found.second.tag} |",
        "|---|---|---|---|",
    ]
    for pair in found.pairs:
        if everything or _winner(found, pair) != "tie":
            texts = (pair.question, pair.expected)
            answers = ((pair.first_right, pair.first), (pair.second_right, pair.second))
            cells = [_cell(text) for text in texts]
            cells += [f"{'✅' if right else '❌'} {_cell(text)}" for right, text in answers]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    for character, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "\\`")):
        text = text.replace(character, written)
    return "<br>".join(harmless(text).split("\n"))


def as_object(found: "Comparison") -> dict[str, Any]:
    """The comparison as the object that --json prints."""
    people = [
        human and blend and asdict(human) | asdict(blend) | {"blend": blend.score}
        for human, blend in zip(found.people, found.blends, strict=True)
    ]
    return {
        "first": found.first.tag,
        "second": found.second.tag,
        "questions": len(found.pairs),
        "counts": asdict(found.counts),
        "judge": asdict(found.judge) if found.judge else None,
        "people": {
            "first": people[0],
            "second": people[1],
            "preferred": found.preferred,
            "agreement": found.agreement,
        },
        "pairs": [_pair_object(found, pair) for pair in found.pairs],
    }


def _pair_object(found: "Comparison", pair: "Pair") -> dict[str, Any]:
    judged = _judged(found, pair)
    verdicts = (
        {"winner": judged.winner, "verdicts": judged.verdicts, "reasons": judged.reasons}
        if judged
        else None
    )
    return asdict(pair) | {"winner": pair.winner, "judge": verdicts}
