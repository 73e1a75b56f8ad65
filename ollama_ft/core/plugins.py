"""The doors. Whatever grows by variants enters here, built-ins and plugins alike.

A plugin is a module (named by an entry point in the group "ollama_ft") with functions marked
`@hookimpl`. Each hook is called with `register(name, thing)`; what a thing is, the hook says.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import pluggy

from ollama_ft.core.errors import BadInput

hookspec = pluggy.HookspecMarker("ollama_ft")
hookimpl = pluggy.HookimplMarker("ollama_ft")

Register = Callable[[str, Any], None]

# Built-ins by kind: the modules that are loaded when, and only when, that kind is asked for.
BUILT_IN = {
    "formats": ("ollama_ft.kinds.formats",),
    "metrics": ("ollama_ft.kinds.metrics",),
    "trainers": ("ollama_ft.kinds.trainers",),
    "sources": ("ollama_ft.kinds.sources",),
    "routes": ("ollama_ft.kinds.routes",),
    "bases": ("ollama_ft.kinds.bases",),
    "commands": (),
    "exports": ("ollama_ft.kinds.exports",),
    "imports": ("ollama_ft.kinds.imports",),
    "containers": ("ollama_ft.kinds.containers",),
    "readers": ("ollama_ft.kinds.readers",),
    "harvest_rules": ("ollama_ft.kinds.harvest",),
}


class Hooks:
    """The hooks, one for each kind."""

    @hookspec
    def register_formats(self, register: Register) -> None:
        """Dataset formats: a `kinds.formats.Format`, from a row of a file to a conversation."""

    @hookspec
    def register_metrics(self, register: Register) -> None:
        """Metrics: a `kinds.metrics.Metric`, from an answer and its reference to a number."""

    @hookspec
    def register_trainers(self, register: Register) -> None:
        """Trainers: `train(job, on_event) -> TrainResult`, under the recipe's `adapter` name."""

    @hookspec
    def register_sources(self, register: Register) -> None:
        """Log sources: a `kinds.sources.Source`, from a file of elsewhere to exchanges."""

    @hookspec
    def register_routes(self, register: Register) -> None:
        """Publish routes: a `kinds.routes.Route`, bringing a version to a runtime."""

    @hookspec
    def register_bases(self, register: Register) -> None:
        """Base sources: a `kinds.bases.Fetch`, bringing a base into the store."""

    @hookspec
    def register_commands(self, register: Register) -> None:
        """Commands: a click command, under its name."""

    @hookspec
    def register_exports(self, register: Register) -> None:
        """What a version is given away as: a `kinds.exports.Export`."""

    @hookspec
    def register_imports(self, register: Register) -> None:
        """What a version is made of that was not trained here: a `kinds.imports.Recognise`."""

    @hookspec
    def register_containers(self, register: Register) -> None:
        """Kinds of files: a `kinds.containers.Container`, from a path to its rows as they stand."""

    @hookspec
    def register_readers(self, register: Register) -> None:
        """Readers: a `kinds.readers.Reader`, from a document's file to blocks of text."""

    @hookspec
    def register_harvest_rules(self, register: Register) -> None:
        """Rules of the harvest: a `kinds.harvest.candidate.Rule`, from candidates to those kept."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One thing that came in by a door."""

    kind: str
    name: str
    thing: Any
    origin: str  # the module, or the distribution that brought it


@cache
def collect(kind: str) -> dict[str, Loaded]:
    """Everything of one kind by name; built-ins first, then plugins, which may not replace them.

    Raises BadInput if a plugin cannot be imported, has a hook that is none, fails while it
    registers, or takes a name that is already taken.
    """
    manager = pluggy.PluginManager("ollama_ft")
    manager.add_hookspecs(Hooks)
    found: dict[str, Loaded] = {}
    for module in BUILT_IN[kind]:
        _take(manager, importlib.import_module(module), kind, module, found)
    for entry in entry_points(group="ollama_ft"):
        origin = entry.dist.name if entry.dist else entry.value
        try:
            _take(manager, entry.load(), kind, origin, found)
        except BadInput:
            raise
        except Exception as error:  # a plugin may fail in any way; name it and stop
            raise BadInput(
                f"The plugin {entry.name} of {origin} cannot be loaded: {error}.",
                mend=f"pip uninstall {origin}",
            ) from error
    return found


def _take(
    manager: pluggy.PluginManager,
    plugin: object,
    kind: str,
    origin: str,
    found: dict[str, Loaded],
) -> None:
    def register(name: str, thing: Any) -> None:
        if name in found:
            raise BadInput(
                f"{origin} brings a second {name!r}; {found[name].origin} has it.",
                mend=f"pip uninstall {origin}",
            )
        found[name] = Loaded(kind=kind, name=name, thing=thing, origin=origin)

    manager.register(plugin)
    manager.subset_hook_caller(
        f"register_{kind}", [p for p in manager.get_plugins() if p is not plugin]
    )(register=register)


def everything() -> list[Loaded]:
    """All that is loaded, kind by kind: what `ollama-ft plugins` lists."""
    return [loaded for kind in BUILT_IN for loaded in collect(kind).values()]
