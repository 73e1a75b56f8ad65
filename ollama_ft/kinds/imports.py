"""What a version can be made of that was not trained here: one function behind each kind.

    bundle      a version of another home, in one file
    mlx         a folder that mlx-lm wrote
    peft        a folder that PEFT wrote, as Unsloth and LLaMA-Factory do
    gguf        an adapter as llama.cpp's converter writes it
    modelfile   a Modelfile with an ADAPTER line, and the adapter that it names

Each looks at a path and says what is there, or None if it is not of its kind. All of it is hostile
until it is checked against the base (stages/adopt.py).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ollama_ft.core.errors import BadInput, BadWeights, NotFound, Unsupported
from ollama_ft.core.plugins import Register, collect, hookimpl
from ollama_ft.kinds.modelfiles import base_of, check_kept, decoded, read_modelfile
from ollama_ft.runtime.oci.artefact import Artefact
from ollama_ft.runtime.oci.layout import blob_path, is_layout, read_layout


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What is at a path. One of `artefact`, `peft` and `gguf` is there."""

    kind: str
    artefact: Artefact | None = None
    blobs: Mapping[str, Path] | None = None  # of the artefact, by digest
    peft: Path | None = None  # a folder
    gguf: Path | None = None  # a file
    made_with: str = ""
    base: str = ""  # the model's name, where it says so
    system: str | None = None  # None: the base's own
    template: str | None = None
    parameters: Mapping[str, object] | None = None
    notes: tuple[str, ...] = ()  # what of it is left as the base has it


Recognise = Callable[[Path, Path], Offer | None]  # a path, and an empty folder to work in


def recognise(path: Path, work: Path) -> Offer:
    """What is at `path`, by the first kind that knows it.

    Raises NotFound if nothing is there, Unsupported if no kind knows it, and what the kinds raise
    for what is of theirs and not in order.
    """
    if not path.exists():
        raise NotFound(f"There is nothing at {path}.")
    known: dict[str, Recognise] = {n: found.thing for n, found in collect("imports").items()}
    for look in known.values():
        if offer := look(path, work):
            return offer
    raise Unsupported(
        f"{path} is nothing that can be imported: {', '.join(known)}.",
        mend="ollama-ft import --help",
    )


@hookimpl
def register_imports(register: Register) -> None:
    """Bring in the built-in kinds; each looks only at its own files."""
    register("bundle", bundle)
    register("mlx", mlx)
    register("peft", peft)
    register("gguf", gguf)
    register("modelfile", modelfile)


def bundle(path: Path, work: Path) -> Offer | None:
    """A tar of an OCI layout."""
    if not path.is_file() or not is_layout(path):
        return None
    artefact = read_layout(path, work / "blobs")
    blobs = {blob.digest: blob_path(work / "blobs", blob.digest) for blob in artefact.blobs}
    return Offer(kind="bundle", artefact=artefact, blobs=blobs)


def mlx(path: Path, work: Path) -> Offer | None:
    """A folder with adapters.safetensors; it is converted to PEFT's form."""
    if not path.is_dir():
        return None
    from ollama_ft.weights.mlx_folder import is_mlx, mlx_to_peft

    if not is_mlx(path):
        return None
    return Offer(kind="mlx", peft=mlx_to_peft(path, work / "peft"), made_with="mlx-lm")


def peft(path: Path, work: Path) -> Offer | None:
    """A folder with adapter_model.safetensors. A pickle of the same name is refused."""
    if not path.is_dir():
        return None
    if (path / "adapter_model.safetensors").is_file():
        return Offer(kind="peft", peft=path, made_with="PEFT")
    if (path / "adapter_model.bin").is_file():
        raise Unsupported(
            f"{path} holds a pickle (adapter_model.bin), which could run code and is never loaded.",
            mend="save it again with safe_serialization=True",
        )
    return None


def gguf(path: Path, work: Path) -> Offer | None:
    """A GGUF whose general.type is adapter."""
    if not path.is_file() or _head(path, 4) != b"GGUF":
        return None
    from ollama_ft.weights.reader import open_gguf

    with open_gguf(path) as found:
        if found.metadata.get("general.type") != "adapter":
            raise BadWeights(
                f"{path} is a model, not an adapter.", mend=f"ollama-ft new --from {path}"
            )
    return Offer(kind="gguf", gguf=path, made_with="llama.cpp")


def modelfile(path: Path, work: Path) -> Offer | None:
    """A Modelfile; its ADAPTER is looked for beside it, as Ollama does."""
    written = decoded(path) if path.is_file() else None
    if not written or not re.search(r"^\s*FROM\s", written, re.IGNORECASE | re.MULTILINE):
        return None
    text = read_modelfile(path)
    if len(text.adapters) != 1:
        raise BadInput(
            f"{path} has {len(text.adapters) or 'no'} ADAPTER lines; one makes a version.",
            mend=f"ollama-ft new --modelfile {path}, for a family without an adapter",
        )
    adapter = path.parent / Path(text.adapters[0]).expanduser()
    found = next((o for look in (mlx, peft, gguf) if (o := look(adapter, work))), None)
    if found is None:
        raise NotFound(f"The ADAPTER of {path} is no adapter, or is not there: {adapter}.")
    return replace(
        found,
        kind="modelfile",
        base=base_of(text, path),
        system=text.system,
        template=text.template,
        parameters=text.parameters,
        notes=check_kept(text, path),
    )


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)
