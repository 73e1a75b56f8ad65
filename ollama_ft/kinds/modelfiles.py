"""A Modelfile from outside: read from its file, and how much of it a family can stand on.

A family keeps FROM, SYSTEM, TEMPLATE and PARAMETER. What else would change its answers is refused
by name, and what would not is told: nothing is passed over in silence.
"""

import codecs
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound, Unsupported
from ollama_ft.core.records import Base, Family, Version
from ollama_ft.runtime.modelfile import Modelfile, parse_modelfile

MOST = 4 << 20  # bytes
PLACEHOLDER = "base"  # FROM in a Modelfile that leaves the base open, as those in modelfiles/ do
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a family begins with. None keeps the base's own."""

    base: str  # a model's name, or the path of a GGUF; "" where it is left open
    system: str | None = None
    template: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what the file says and is left as the base has it


def read_start(path: Path) -> Start:
    """What the Modelfile at `path` says of a family's start.

    Raises NotFound, and BadInput for what is no Modelfile, or says what a family cannot keep.
    """
    text = read_modelfile(path)
    if text.adapters:
        raise BadInput(
            f"{path} has an ADAPTER line: it makes a version, not a family.",
            mend=f"ollama-ft import {path}",
        )
    return Start(
        base=base_of(text, path),
        system=text.system,
        template=text.template,
        parameters=text.parameters,
        notes=check_kept(text, path),
    )


def modelfile_of(told: Family | Version, base: Base, adapter: str = "") -> Modelfile:
    """A family's prompt, or a version's with its adapter's path, as a Modelfile."""
    return Modelfile(
        sources=(base.name,),
        adapters=(adapter,) if adapter else (),
        template=told.template or None,
        system=told.system or None,
        parameters=json.loads(told.parameters_json),
    )


def read_modelfile(path: Path) -> Modelfile:
    """The Modelfile at `path`, in UTF-8, or in UTF-16 with its mark, as Ollama reads it.

    Raises NotFound, and BadInput for what is none.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    text = decoded(path)
    if text is None:
        raise BadInput(
            f"{path} is no Modelfile: it is not text in UTF-8, or has more than 4 MiB.",
            mend=f"iconv -f gb18030 -t utf-8 {path}, if an editor wrote it in a Chinese encoding",
        )
    try:
        return parse_modelfile(text)
    except BadInput as error:
        raise BadInput(f"{path}: {error}", mend=error.mend) from error


def decoded(path: Path) -> str | None:
    """The file's text; None if it is none, or too long for a Modelfile."""
    if path.stat().st_size > MOST:
        return None
    content = path.read_bytes()
    try:
        return content.decode("utf-16" if content.startswith(_MARKS) else "utf-8-sig")
    except UnicodeDecodeError:
        return None


def base_of(text: Modelfile, path: Path) -> str:
    """FROM as `--from` takes it: a model's name, or the path of a GGUF beside the Modelfile; ""
    where it is left open. Raises BadInput for several.
    """
    if len(text.sources) > 1:
        raise BadInput(
            f"{path} has {len(text.sources)} FROM lines, and a family stands on one GGUF.",
            mend="take the others out",
        )
    (source,) = text.sources
    beside = path.parent / Path(source).expanduser()
    if beside.is_file():  # Ollama, too, looks for a file before it takes it for a name
        return str(beside)
    return "" if source == PLACEHOLDER else source


def check_kept(text: Modelfile, path: Path) -> tuple[str, ...]:
    """Sentences about what a family leaves as the base has it. Raises Unsupported for what it
    cannot keep, and would answer otherwise without.
    """
    lost = {"MESSAGE": text.messages, "DRAFT": text.draft}
    if found := [name for name, value in lost.items() if value]:
        raise Unsupported(
            f"{path} has {' and '.join(found)} lines, which a version cannot keep.",
            mend="take them out; what MESSAGE lines show can be taught: --data FILE",
        )
    left = {
        "RENDERER": text.renderer,
        "PARSER": text.parser,
        "LICENSE": text.licenses,
        "REQUIRES": text.requires,
    }
    sentences = [f"{name} stays as the base has it." for name, value in left.items() if value]
    if text.passed_over:
        sentences.append(f"Ollama ignores PARAMETER {', '.join(text.passed_over)}, and so do we.")
    return tuple(sentences)
