"""Tables, sizes and ages in the look of `ollama list`; results on stdout, in text or JSON."""

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1  # of the JSON that commands print
PRINTED = "JSON was printed"  # a key of click's meta: an error after it is told on stderr alone
GAP = 3  # columns between two cells
SHORT = 32  # columns of a cell that is not folded
LINE = 48  # characters of a question or an answer in a list
WIDE = 10_000  # columns where the output is no terminal: nothing is cut there

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def console() -> "Console":
    """stdout, as wide as the terminal; NO_COLOR and FORCE_COLOR are honoured."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDE
    return Console(width=width, highlight=False, markup=False, soft_wrap=False)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a borderless table; columns named in `right` are aligned to the right.

    Short cells stay in one piece, so that a name can be copied: where the terminal is too narrow
    for them, it breaks the lines. Long ones are folded.
    """
    from rich.cells import cell_len
    from rich.table import Table

    shown = Table(box=None, show_edge=False, pad_edge=False, padding=(0, GAP, 0, 0))
    shown.header_style = ""
    cells = [[harmless(cell) for cell in row] for row in (head, *rows)]
    least = 0
    for name, column in zip(head, zip(*cells, strict=True), strict=True):
        wide = max(cell_len(line) for cell in column for line in cell.split("\n"))
        short = wide <= SHORT
        shown.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=short,
            min_width=wide if short else SHORT,
        )
        least += min(wide, SHORT) + GAP
    for row in cells[1:]:
        shown.add_row(*row)
    out = console()
    out.width = max(out.width, least)
    with out.capture() as capture:
        out.print(shown)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def harmless(text: str) -> str:
    """A text from elsewhere without what a terminal would obey: colours, titles, cursor moves."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def cut(text: object, most: int = LINE) -> str:
    """The beginning of a text, in one line, without what a terminal would obey."""
    line = harmless(" ".join(str(text).split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def print_json(body: Mapping[str, object]) -> None:
    """Print one JSON object, with the version of its form."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[PRINTED] = True
    escaped = not (sys.stdout.encoding or "").lower().startswith("utf")
    click.echo(json.dumps({"schema": SCHEMA} | dict(body), ensure_ascii=escaped, indent=2))


def size(count: int | None) -> str:
    """Bytes as Ollama writes them, in decimal units: "98 MB", "8.8 MB"."""
    if count is None:
        return "-"
    amount, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def age(at: str, now: datetime | None = None) -> str:
    """How long ago an ISO time was: "2 minutes ago"."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    if seconds < 5:
        return "just now"
    units = (("year", 31_557_600), ("month", 2_629_800), ("week", 604_800), ("day", 86_400))
    for name, length in (*units, ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def short(digest: str | None) -> str:
    """The first 12 digits of a digest."""
    return (digest or "").removeprefix("sha256:")[:12] or "-"


def share(part: int | None, whole: int | None) -> str:
    """ "117/120  98%"; "-" if nothing was counted."""
    if part is None or not whole:
        return "-"
    return f"{part}/{whole} {part / whole:.0%}"


def number(value: float | None, digits: int = 1) -> str:
    """A number with so many digits behind the point; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"
