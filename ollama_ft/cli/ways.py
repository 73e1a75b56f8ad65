"""The options of commands that bring a version to a runtime: --route and --packed-as."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ollama_ft.core.errors import BadInput
from ollama_ft.core.plugins import collect

if TYPE_CHECKING:
    from ollama_ft.stages.publish import Way

Command = Callable[..., Any]


def way_options(command: Command) -> Command:
    """Give a command the two options that `way` reads."""
    route = click.option(
        "--route", help="adapters, files, registry, store or merged; else the first that works."
    )
    packed = click.option(
        "--packed-as", metavar="TYPE", help="For merged: Q8_0 (the default), F16 …, or keep."
    )
    return route(packed(command))


def way(route: str | None, packed_as: str | None) -> "Way":
    """What the options say. Raises BadInput for a route or a type that there is not."""
    from ollama_ft.stages.publish import ANY, Way

    if route is not None and route not in (known := collect("routes")):
        raise BadInput(f"There is no route {route!r}. Known: {', '.join(known)}.")
    return Way(route=route, packed_as=_packing(packed_as) if packed_as else ANY.packed_as)


def _packing(text: str) -> str:
    from ollama_ft.weights.dequant import TYPES
    from ollama_ft.weights.merge import KEEP

    known = {kind.lower(): kind for kind in (KEEP, *TYPES)}
    if text.lower() not in known:
        raise BadInput(f"--packed-as {text!r} is no type. Known: {', '.join(known.values())}.")
    return known[text.lower()]
