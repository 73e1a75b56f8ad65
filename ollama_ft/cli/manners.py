"""The option of commands that train: whether other models may be sent out of memory meanwhile."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.tables import size

if TYPE_CHECKING:
    from ollama_ft.runtime.answers import Loaded

unload_option = click.option(
    "--unload", is_flag=True, help="Free memory for the training; what was loaded comes back."
)


def asked(agreed: bool) -> "Callable[[Sequence[Loaded]], bool]":
    """Whether models may go: yes if `agreed`, else what a person at the terminal says. Where
    nobody is there to ask they stay."""

    def may_unload(models: "Sequence[Loaded]") -> bool:
        if agreed:
            return True
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        for model in models:
            click.echo(f"  {model.name}  {size(model.size)}", err=True)
        question = "These are in memory where the training computes. Unload them meanwhile?"
        return click.confirm(question, default=True, err=True)

    return may_unload
