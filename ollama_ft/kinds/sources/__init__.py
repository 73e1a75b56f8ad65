"""Logs of elsewhere: what people have already, as exchanges.

A source yields an exchange for each question with an answer, and None for what is neither. Its ids
are made from the place or the content, so that importing twice finds the same ones again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.plugins import Register, hookimpl
from ollama_ft.kinds.sources import jsonl, llm, open_webui
from ollama_ft.kinds.sources.fields import Found


@dataclass(frozen=True, kw_only=True)
class Source:
    """One kind of log. `fits` looks at the beginning of a file; `read` raises BadInput."""

    fits: Callable[[Path], bool]
    read: Callable[[Path], Found]


@hookimpl
def register_sources(register: Register) -> None:
    """The sources that come with ollama-ft, the surest first."""
    register("llm", Source(fits=llm.fits, read=llm.read))
    register("open-webui", Source(fits=open_webui.fits, read=open_webui.read))
    register("jsonl", Source(fits=jsonl.fits, read=jsonl.read))
