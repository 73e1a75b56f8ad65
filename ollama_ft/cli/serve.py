"""The command that runs for long: serve."""

import ipaddress
import os
from typing import TYPE_CHECKING

import click

from ollama_ft.cli.app import Context, pass_context
from ollama_ft.core.errors import BadInput, FtError

if TYPE_CHECKING:
    from ollama_ft.core.events import Event
    from ollama_ft.core.home import Home
    from ollama_ft.runtime.host import Address
    from ollama_ft.serve.server import Plan
    from ollama_ft.serve.writer import Keeping


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=11435, show_default=True)
@click.option("--listen", default="127.0.0.1", show_default=True, help="IP address; 0.0.0.0: all.")
@click.option("--token", envvar="OLLAMA_FT_TOKEN", help="Who calls must have it. [OLLAMA_FT_TOKEN]")
@click.option("--name", "names", multiple=True, help="A further host name it is called by.")
@click.option("--log/--no-log", default=True, help="Remember questions and answers, or not.")
@click.option("--redact/--no-redact", default=True, help="Take out what is personal, or not.")
@click.option("--retain", type=click.FloatRange(min=0), help="Days to keep them; else for ever.")
@click.option("--rag", multiple=True, metavar="FAMILY", help="Put its documents' passages in.")
@click.option("--spool", type=click.IntRange(1), default=64, show_default=True, help="MB at most.")
@pass_context
def serve_command(
    context: Context,
    port: int,
    listen: str,
    token: str | None,
    names: tuple[str, ...],
    log: bool,
    redact: bool,
    retain: float | None,
    rag: tuple[str, ...],
    spool: int,
) -> None:
    """Serve Ollama's address, and remember what is asked.

    Stands in front of the runtime that is found (an Ollama, or our own in the same process). Every
    request passes through; a family's name is answered by its live version, and questions with
    their answers go to the log: `ollama-ft logs`.

    \b
      ollama-ft serve
      OLLAMA_HOST=127.0.0.1:11435 ollama run support

    One request is not remembered: X-Ollama-FT-No-Log: 1. An answer's X-Ollama-FT-Exchange header
    is the id for feedback.
    """
    from ollama_ft.core.refs import family
    from ollama_ft.runtime.find import choose
    from ollama_ft.serve.guard import Doorkeeper
    from ollama_ft.serve.server import Plan, serve

    choice = choose(context.setting("host") or None, os.environ, _note)
    keeper = Doorkeeper(listen=_ip(listen), names=names, token=token or "")
    if choice.address and choice.address.is_loopback and choice.address.port == port != 0:
        raise BadInput(
            f"The runtime is said to be at {choice.address}, where serve itself would listen.",
            mend="set OLLAMA_HOST to the runtime, or give another --port",
        )
    plan = Plan(
        home=context.home,
        runtime=choice.address,
        keeper=keeper,
        port=port,
        keeping=_keeping(context.home, redact, retain, spool) if log else None,
        env=os.environ,
        rag=[family(context.db, name).name for name in rag],
        emit=_tell,
    )
    if choice.why:
        _note(choice.why)
    serve(plan, lambda running: _ready(context, plan, running.address))
    _note("stopped.")


def _keeping(home: "Home", redact: bool, retain: float | None, spool: int) -> "Keeping":
    from ollama_ft.serve.redaction import clean
    from ollama_ft.serve.writer import Keeping

    return Keeping(
        path=home.log,
        clean=clean if redact else None,
        retain_days=retain,
        spool_limit=spool << 20,
    )


def _ready(context: Context, plan: "Plan", address: "Address") -> None:
    """Say where it listens, then see that each family's live version is at the runtime."""
    runtime = plan.runtime.url if plan.runtime else "our own runtime, in this process"
    _note(f"serving {address.url} in front of {runtime}")
    if not plan.keeper.is_local:
        port = address.port
        _note(f"listening on {plan.keeper.listen}:{port} too: other machines need the token")
    if plan.keeping is None:
        _note("nothing is remembered (--no-log)")
    else:
        clean = "personal data is taken out" if plan.keeping.clean else "NOT redacted"
        days = plan.keeping.retain_days
        kept = "for ever" if days is None else f"{days:g} days"
        _note(f"remembering in {plan.keeping.path}; {clean}; kept {kept}")
    if plan.rag:
        _note(f"passages of documents are put behind questions to {', '.join(plan.rag)}")
    try:
        _bring_live(context, address, plan.keeper.token)
    except FtError as error:
        _note(f"the live versions could not be brought to the runtime: {error}")


def _bring_live(context: Context, address: "Address", token: str) -> None:
    from ollama_ft.core.catalog import every, open_catalog
    from ollama_ft.core.events import silent
    from ollama_ft.core.records import Family
    from ollama_ft.core.refs import live

    db = open_catalog(context.home.catalog)
    try:
        if not every(db, Family):
            return
        from ollama_ft import loop
        from ollama_ft.runtime.client import Ollama
        from ollama_ft.stages import publish
        from ollama_ft.workshop import Workshop

        with Ollama(address, api_key=token) as client:
            shop = Workshop(db=db, home=context.home, client=client, emit=silent)
            loop.mend(shop)
            for family in every(db, Family):
                if current := live(db, family.name):
                    publish.bring(db, context.home, client, current.version)
    finally:
        db.close()


def _ip(listen: str) -> str:
    text = "127.0.0.1" if listen == "localhost" else listen.strip("[]")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise BadInput(
            f"{listen!r} is no IP address to listen on.",
            mend="ollama-ft serve --listen 0.0.0.0, with a token",
        ) from error


def _tell(event: "Event") -> None:
    _note(getattr(event, "text", ""))


def _note(text: str) -> None:
    click.echo(text, err=True)
