"""How what was found in data is printed: a table of finds, then what the rows are."""

import click

from ollama_ft.cli.tables import table
from ollama_ft.kinds.report import Found, Lengths, Report

LISTED = 3  # examples of each find in the text; --json has more


def print_report(report: Report) -> None:
    """Print a report: what wants a look, with examples, and below it the figures."""
    rows = [(name, what) for name, what in _finds(report) if what is not None]
    whole = report.rows + report.bad.rows
    table(
        ["FOUND", "ROWS", "SHARE", "OF THEM"],
        [[name, f"{what.rows:,}", _share(what.rows, whole), _counts(what)] for name, what in rows],
        right=("ROWS", "SHARE"),
    )
    for name, what in rows:
        if what.rows:
            click.echo(f"\n{name}:")
            for example in what.examples[:LISTED]:
                click.echo(f"  {example}")
            if what.rows > LISTED:
                click.echo(f"  … {what.rows - LISTED:,} more")
    click.echo()
    for name, text in _facts(report):
        click.echo(f"{name:<14}{text}")


def _finds(report: Report) -> list[tuple[str, Found | None]]:
    return [
        ("not fit to learn from", report.bad),
        ("the same row again", report.duplicates),
        ("nearly the same row", report.near),
        ("same question, other answer", report.conflicts),
        ("near question, other answer", report.similar),
        ("likely personal data", report.personal),
        ("asked in a suite", report.leaks),
        ("too long to learn from", report.too_long),
    ]


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [
        ("rows", f"{report.rows:,} fit to learn from"),
        ("formats", ", ".join(f"{file} {kind}" for file, kind in report.formats.items())),
        ("split", _numbers(report.splits)),
        ("roles", _numbers(report.roles)),
        ("languages", ", ".join(f"{name} {part:.0%}" for name, part in report.languages.items())),
        ("scripts", _numbers(report.scripts)),
        ("sources", _sources(report)),
        ("questions", _lengths(report.questions)),
        ("answers", _lengths(report.answers)),
    ]
    if report.multi_turn:
        facts.append(("conversations", f"{report.multi_turn:,} with more than one question"))
    if report.dropped_turns:
        facts.append(("tool turns", f"{report.dropped_turns:,} left out"))
    if report.across:
        facts.append(("across", f"{report.across:,} questions in more than one split"))
    return [(name, text) for name, text in facts if text]


def _sources(report: Report) -> str:
    shares = [f"{name} {_share(n, report.rows)}" for name, n in report.sources.items()]
    rest = f" and {len(shares) - 10:,} more" if len(shares) > 10 else ""
    return ", ".join(shares[:10]) + rest


def _counts(what: Found) -> str:
    kinds = [f"{name} {count:,}" for name, count in what.kinds.items()]
    return ", ".join(kinds[:5]) + (", …" if len(kinds) > 5 else "")


def _numbers(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _share(part: int, whole: int) -> str:
    # A find that is there must not read as none.
    return "-" if not part else f"{max(part / whole, 0.001):.1%}"


def _lengths(lengths: Lengths) -> str:
    at = f" ({lengths.longest_at})" if lengths.longest else ""
    return f"median {lengths.median:,} characters, longest {lengths.longest:,}{at}"
