"""The root command: options that every command has, the errors' way to the screen, the groups."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ollama_ft.cli.tables import PRINTED, print_json
from ollama_ft.core.errors import BadInput, FtError, Interrupted
from ollama_ft.core.home import Home, find_home
from ollama_ft.core.machine import refusal
from ollama_ft.core.settings import Setting, load_settings

if TYPE_CHECKING:
    from ollama_ft.core.sqlite import Database
    from ollama_ft.workshop import Workshop

# Section of the help → command → the module that has it. A module is imported when its command is
# called or its help line is needed, and none of them imports torch.
SECTIONS = {
    "Make": {"new": "make", "train": "make", "resume": "make", "eval": "make"}
    | {"rebase": "upkeep"},
    "Ship": {"promote": "ship", "rollback": "ship", "run": "ship", "publish": "upkeep"},
    "Look": {"list": "look", "show": "look", "diff": "look", "history": "look", "use": "look"},
    "Judge": {"compare": "compare", "rate": "compare"},
    "Data": {"data": "data", "suite": "suite", "base": "data"},
    "Learn": {"serve": "serve", "logs": "logs", "feedback": "feedback", "review": "feedback"},
    "Keep": {
        "tag": "upkeep",
        "gc": "upkeep",
        "doctor": "keep",
        "config": "keep",
        "plugins": "keep",
        "completion": "keep",
    },
    "Travel": {
        "export": "travel",
        "import": "travel",
        "push": "travel",
        "pull": "travel",
        "keys": "keys",
    },
    "Watch": {"drift": "watch", "check": "watch", "shadow": "watch", "schedule": "watch"},
    "Know": {"ask": "knowledge", "knowledge": "knowledge"},
    "Close the loop": {"retrain": "retrain", "forget": "retrain"},
}
ALIASES = {"ls": "list", "create": "new", "undo": "rollback", "log": "history"}

WANTED = "JSON is wanted"  # a key of click's meta
TAGLINE = "git for the models you run in Ollama: fine-tune, prove, version, roll back."
EXAMPLES = """\b
  ollama-ft new --from smollm2:135m --data faq.jsonl   a family, its base and v1
  ollama-ft run "When do you open?"                    ask the live version
  ollama-ft train --data more.jsonl                    learn more: v2
  ollama-ft list                                       versions, scores, which is live
  ollama-ft rollback                                   back to the version before
"""


@dataclass(kw_only=True)
class Context:
    """What the root's options decided. Catalog and runtime open when a command needs them."""

    home: Home
    settings: dict[str, Setting]
    _db: "Database | None" = field(default=None, repr=False)

    @property
    def db(self) -> "Database":
        """The catalog, opened once."""
        if self._db is None:
            from ollama_ft.core.catalog import open_catalog

            self._db = open_catalog(self.home.catalog)
        return self._db

    def setting(self, key: str) -> str:
        """The value of one setting."""
        return self.settings[key].value

    @contextmanager
    def workshop(self, *, unload: bool = False) -> Iterator["Workshop"]:
        """A workshop on the runtime that answers, with interrupted moves mended first.

        `unload`: a training may send models out of the runtime's memory; else somebody is asked.
        """
        from ollama_ft.cli.manners import asked
        from ollama_ft.cli.progress import Progress
        from ollama_ft.core.events import Note
        from ollama_ft.loop import mend
        from ollama_ft.runtime.find import connect
        from ollama_ft.workshop import Workshop

        log = self.home.path / "registry" / "runtime.log"
        with (
            Progress(self.setting("progress")) as emit,
            connect(
                self.home.models,
                host=self.setting("host") or None,
                env=os.environ,
                notice=lambda text: emit(Note(text=text)),
                log=log,
            ) as client,
        ):
            shop = Workshop(
                db=self.db, home=self.home, client=client, emit=emit, may_unload=asked(unload)
            )
            mend(shop)
            yield shop


pass_context = click.make_pass_decorator(Context)


class Root(click.Group):
    """Knows its commands by name, imports them late, and shows every FtError as an error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, section by section; a plugin's commands last."""
        built_in = [name for section in SECTIONS.values() for name in section]
        return built_in + [name for name in _plugin_commands() if name not in built_in]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that has the command."""
        name = ALIASES.get(cmd_name, cmd_name)
        for section in SECTIONS.values():
            if name in section:
                module = import_module(f"ollama_ft.cli.{section[name]}")
                return getattr(module, f"{name}_command")  # type: ignore[no-any-return]
        return _plugin_commands().get(name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one is near."""
        import difflib

        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"There is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their sections."""
        sections = {title: list(names) for title, names in SECTIONS.items()}
        shown = {name for names in sections.values() for name in names}
        if others := [name for name in self.list_commands(ctx) if name not in shown]:
            sections["Plugins"] = others
        for title, names in sections.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name, c.get_short_help_str(76)) for name, c in commands if c is not None]
                )
        with formatter.section("Aliases"):
            formatter.write_dl(list(ALIASES.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options; note whether JSON is wanted, as an error has to be JSON then too."""
        told = args[: args.index("--")] if "--" in args else args
        ctx.meta[WANTED] = "--json" in told
        with _shown(ctx):
            _check_text(args)
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn every deliberate error into its text and exit code."""
        with _shown(ctx):
            return super().invoke(ctx)


@contextmanager
def _shown(ctx: click.Context) -> Iterator[None]:
    try:
        yield
    except FtError as error:
        _show(ctx, error)
    except KeyboardInterrupt:
        _show(ctx, Interrupted("Interrupted."))
    except click.UsageError as error:
        _as_json(ctx, "Usage", error.format_message(), "", error.exit_code)
        raise
    except (OSError, MemoryError, sqlite3.Error) as error:
        refused = refusal(error)
        if refused is None or ctx.params.get("debug"):
            raise
        _show(ctx, refused)


def _show(ctx: click.Context, error: FtError) -> None:
    if ctx.find_root().params.get("debug"):
        raise error
    click.echo(f"error: {error}", err=True)
    if error.mend:
        click.echo(f"  try: {error.mend}", err=True)
    _as_json(ctx, type(error).__name__, str(error), error.mend, error.exit_code)
    ctx.exit(error.exit_code)


def _as_json(ctx: click.Context, kind: str, text: str, mend: str, code: int) -> None:
    """The error on stdout, where JSON is wanted and nothing was printed yet."""
    if ctx.meta.get(WANTED) and not ctx.meta.get(PRINTED):
        print_json({"error": {"kind": kind, "message": text, "mend": mend, "exit_code": code}})


def _check_text(args: list[str]) -> None:
    for word in args:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise BadInput(
                f"{word!r} is not UTF-8 text.", mend="rename the file, or set a UTF-8 locale"
            )


def _plugin_commands() -> dict[str, click.Command]:
    from ollama_ft.core.plugins import collect

    taken = {name for section in SECTIONS.values() for name in section} | ALIASES.keys()
    found = collect("commands")
    for name in taken & found.keys():
        raise BadInput(
            f"{found[name].origin} brings a second command {name!r}.",
            mend=f"pip uninstall {found[name].origin}",
        )
    return {name: loaded.thing for name, loaded in found.items()}


@click.group(
    cls=Root,
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 the gate said no, 4 too little data, 5 no "
    "runtime, 6 memory or disk, 7 stopped by the watchdog, 8 drift, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=f"{TAGLINE}\n\n{EXAMPLES}",
)
@click.option("--home", type=click.Path(path_type=Path), help="Where everything is kept.")
@click.option("--host", metavar="ADDRESS", help="The runtime; 'embedded' for our own.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain", "json", "none"]),
    help="How progress is shown on stderr.",
)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.version_option(package_name="ollama-ft", prog_name="ollama-ft")
@click.pass_context
def cli(
    ctx: click.Context, home: Path | None, host: str | None, progress: str | None, debug: bool
) -> None:
    """The root: decide the home and the settings."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    place = find_home(home, os.environ, Path.cwd())
    flags = {"host": host, "progress": progress}
    ctx.obj = Context(home=place, settings=load_settings(place.path, os.environ, flags))


def main() -> None:
    """The program `ollama-ft`."""
    # OpenMP's idle threads spin by default, which beside any other busy process takes the time of
    # those that work. They sleep, but in a training that finds the machine quiet.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):  # a Chinese Windows has no ✓ in its own encoding
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli.main(sys.argv[1:], prog_name="ollama-ft")
