"""What every step of the story works with."""

from dataclasses import dataclass

from ollama_ft.core.events import Emit
from ollama_ft.core.home import Home
from ollama_ft.core.sqlite import Database
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.memory import MayUnload, leave_all


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """The catalog, the home, a runtime, and who is told."""

    db: Database
    home: Home
    client: Ollama
    emit: Emit
    may_unload: MayUnload = leave_all  # may a training send these models out of memory?
