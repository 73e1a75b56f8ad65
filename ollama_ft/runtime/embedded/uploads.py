"""Uploaded files as layers: GGUFs as they are, PEFT adapters converted by our own converter.

Ollama's conversion of safetensors moves the wrong rows on llama, ignores rsLoRA, and is gone since
0.34; ours is exact, and knows every architecture that can be trained here.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ollama_ft.core.errors import BadInput, BadWeights, FtError, NotFound, RuntimeRefused
from ollama_ft.runtime.embedded.facts import Facts, read_facts
from ollama_ft.runtime.manifest import LAYER_PREFIX, Layer
from ollama_ft.runtime.store import Store

_EMBEDDINGS = frozenset(("token_embd.weight", "token_types.weight"))  # of any model
_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"


def ggufs(store: Store, files: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and digests in order. Raises RuntimeRefused (400) where one is something else."""
    if files and all(_is_gguf(store, name, digest) for name, digest in files.items()):
        return sorted(files.items())
    raise RuntimeRefused("unknown type", status=400)


def parsed(store: Store, name: str, digest: str, status: int) -> tuple[Layer, Facts]:
    """An uploaded GGUF's layer, and what it says. Raises RuntimeRefused with this status."""
    path = store.blob_path(digest)
    if not path.is_file():
        raise RuntimeRefused(f"open {path}: no such file or directory", status=status)
    facts = facts_of(path, status)
    return _layer(name, digest, path, facts), facts


def _layer(name: str, digest: str, path: Path, facts: Facts) -> Layer:
    is_adapter = facts.kind == "adapter"
    if not is_adapter and not facts.tensors.keys() & _EMBEDDINGS:
        raise RuntimeRefused(
            "failed to validate GGUF: it says that it is a model, and has no token embedding",
            status=500,
        )
    return Layer(
        media_type=LAYER_PREFIX + ("adapter" if is_adapter else "model"),
        digest=digest,
        size=path.stat().st_size,
        source=name if is_adapter else "",
    )


def peft_layer(store: Store, files: Mapping[str, str], base: Path) -> tuple[Layer, bool]:
    """A PEFT adapter, uploaded as its two files, as the layer of a GGUF; and whether that is new.

    Raises RuntimeRefused (400).
    """
    from ollama_ft.weights.adapter import convert_adapter
    from ollama_ft.weights.reader import open_gguf

    with tempfile.TemporaryDirectory(prefix=".peft-", dir=store.root) as temporary:
        folder, out = Path(temporary) / "peft", Path(temporary) / "adapter.gguf"
        _lay_out(store, files, folder)
        try:
            with open_gguf(base) as gguf:
                made = convert_adapter(folder, gguf, out, provenance={})
        except FtError as error:
            raise RuntimeRefused(str(error), status=400) from error
        is_new = not store.has_blob(made.digest)
        store.add_blob(out, made.digest)
    layer = Layer(media_type=f"{LAYER_PREFIX}adapter", digest=made.digest, size=made.size)
    return layer, is_new


def _lay_out(store: Store, files: Mapping[str, str], folder: Path) -> None:
    """Give the two blobs the names that PEFT gives them. Only the last part of a name counts."""
    for name in files:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise RuntimeRefused(f"file path must be relative: {name}", status=400)
    wanted = {Path(name).name: digest for name, digest in files.items()}
    if _CONFIG not in wanted:
        raise RuntimeRefused(f"open {_CONFIG}: no such file or directory", status=400)
    tensors = [digest for name, digest in wanted.items() if is_safetensors(name)]
    if len(tensors) != 1:
        raise RuntimeRefused("an adapter is one safetensors file, not several", status=400)
    folder.mkdir()
    for name, digest in ((_CONFIG, wanted[_CONFIG]), (_TENSORS, tensors[0])):
        path = store.blob_path(digest)
        if not path.is_file():
            raise RuntimeRefused(f"open {path}: no such file or directory", status=400)
        try:
            os.link(path, folder / name)
        except OSError:
            shutil.copyfile(path, folder / name)


def facts_of(path: Path, status: int) -> Facts:
    """What a GGUF says. Raises RuntimeRefused with this status where it is damaged."""
    try:
        return read_facts(path)
    except (BadInput, NotFound) as error:
        raise RuntimeRefused(_damage(path, error), status=status) from error


def _damage(path: Path, error: Exception) -> str:
    if isinstance(error, BadWeights):
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return "supplied file was not in GGUF format"
    return str(error)


def is_safetensors(name: str) -> bool:
    """By its name, as Ollama finds out."""
    return name.endswith(".safetensors")


def _is_gguf(store: Store, name: str, digest: str) -> bool:
    """By its name, else by its first bytes, as Ollama finds out."""
    if name.endswith(".gguf"):
        return True
    path = store.blob_path(digest)
    if is_safetensors(name) or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"
