"""Options that say how files of data are read: --format, --map and --query, as one argument."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from ollama_ft.kinds.containers import Reading

_OPTIONS = (
    click.option("--format", "form", help="The data's format; else found out."),
    click.option(
        "--map",
        "columns",
        multiple=True,
        metavar="OURS=THEIRS",
        help="Names of columns: question=Frage,answer=Antwort.",
    ),
    click.option("--query", metavar="SQL", help="What to read of a SQLite file."),
)


_EXTRA = ("datasets", "numpy", "py3langid", "pyarrow")


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the three options; it gets them as `reading`."""

    @wraps(command)
    def gathered(
        *args: Any, form: str | None, columns: tuple[str, ...], query: str | None, **rest: Any
    ) -> Any:
        from ollama_ft.core.errors import BadInput
        from ollama_ft.core.plugins import collect
        from ollama_ft.kinds.containers import parse_columns

        if form is not None and form not in (known := collect("formats")):
            raise BadInput(f"{form!r} is no data format.", mend=f"use one of {', '.join(known)}")
        reading = Reading(format=form, columns=parse_columns(columns), query=query)
        try:
            return command(*args, reading=reading, **rest)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA:
                raise
            raise BadInput(
                f"To read and compare data {error.name} is needed, which is not installed.",
                mend="pip install 'ollama-ft[data]'",
            ) from error

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered
