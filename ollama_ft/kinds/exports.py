"""What a version can be given away as: one function behind each kind.

bundle      one file with all that is known, to import elsewhere
gguf        the adapter as Ollama and llama.cpp load it
peft        the adapter as PEFT and transformers load it
modelfile   a Modelfile, with the adapter beside it
merged      base and adapter in one GGUF, for what cannot load adapters
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ollama_ft.core.errors import BadWeights, Conflict, NotFound
from ollama_ft.core.files import CHUNK, digest_file, write_atomic, write_bytes
from ollama_ft.core.plugins import Register, hookimpl
from ollama_ft.kinds.bundle import Packed
from ollama_ft.runtime.modelfile import Modelfile
from ollama_ft.runtime.oci.layout import write_layout

MERGE = "ollama_ft.weights.merge"
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, kw_only=True)
class Goods:
    """A version as files of the home. The bare base has no adapter, and nothing packed."""

    tag: str  # "support:v2"
    base: Path  # the GGUF
    modelfile: Modelfile  # its ADAPTER lines are left out
    adapter: Path | None = None  # the GGUF
    digest: str = ""  # of the adapter
    lost: str = "is gone"  # what became of the adapter, where its file is not there
    way_back: str = ""  # the command that brings it again
    peft: Path | None = None  # the folder; made from `adapter` where it is gone or damaged
    peft_digest: str = ""  # of the folder's tensors
    pack: Callable[[], Packed] | None = None

    @property
    def stem(self) -> str:
        """The tag as a file's name: "support-v2"."""
        return self.tag.replace("/", "-").replace(":", "-")

    def the_adapter(self) -> Path:
        """The adapter's GGUF. Raises NotFound for the bare base, and where the file is gone;
        BadWeights where it is not what it was.
        """
        if self.adapter is None:
            raise NotFound(
                f"{self.tag} is the bare base: it has no adapter.",
                mend=f"ollama-ft export {self.tag} --as modelfile -o Modelfile",
            )
        if not self.adapter.is_file():
            raise NotFound(f"The adapter of {self.tag} {self.lost}.", mend=self.way_back)
        if digest_file(self.adapter) != self.digest:
            raise BadWeights(
                f"The adapter of {self.tag} is damaged: {self.adapter} has another digest.",
                mend=f"remove that file, then: {self.way_back}",
            )
        return self.adapter

    def packed(self) -> Packed:
        """All that is known of the version, as one artefact. Raises as `the_adapter` does, and
        NotFound for another file that is gone.
        """
        self.the_adapter()
        assert self.pack is not None, "a version with an adapter can be packed"
        return self.pack()


Export = Callable[[Goods, Path], Path]  # writes to the path that is given; returns what it wrote


@hookimpl
def register_exports(register: Register) -> None:
    """Bring in the built-in kinds."""
    register("bundle", bundle)
    register("gguf", gguf)
    register("peft", peft)
    register("modelfile", modelfile)
    if find_spec(MERGE):
        register("merged", merged)


def bundle(goods: Goods, out: Path) -> Path:
    """One file that `ollama-ft import` takes; the same version gives the same bytes."""
    packed = goods.packed()
    return write_layout(out, packed.artefact, packed.contents, goods.tag)


def gguf(goods: Goods, out: Path) -> Path:
    """The adapter's GGUF, byte for byte as it is served."""
    return _copy(goods.the_adapter(), out)


def peft(goods: Goods, out: Path) -> Path:
    """A folder with adapter_config.json and adapter_model.safetensors.

    Raises Conflict if the folder holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} is there already, and not empty.", mend="choose another with -o")
    whole = goods.peft and all((goods.peft / name).is_file() for name in PEFT_FILES)
    if goods.peft and whole and digest_file(goods.peft / PEFT_FILES[1]) == goods.peft_digest:
        for name in PEFT_FILES:
            _copy(goods.peft / name, out / name)
        return out
    from ollama_ft.weights.adapter import adapter_to_peft
    from ollama_ft.weights.reader import open_gguf

    with open_gguf(goods.base) as base:
        return adapter_to_peft(goods.the_adapter(), base, out)


def modelfile(goods: Goods, out: Path) -> Path:
    """A Modelfile that `ollama create` takes, and the adapter as a GGUF beside it."""
    text = goods.modelfile
    if goods.adapter is not None:
        beside = _copy(goods.the_adapter(), out.parent / f"{goods.stem}.gguf")
        text = replace(text, adapters=(f"./{beside.name}",))
    return write_bytes(out, text.text(f"{goods.tag}, made by ollama-ft.").encode())


def merged(goods: Goods, out: Path) -> Path:
    """Base and adapter in one GGUF. Changed matrices are packed as Q8_0: packed as small as many a
    base is, the rounding would be larger than what was learnt.
    """
    import_module(MERGE).merge(goods.base, goods.the_adapter(), out, packed_as="Q8_0")
    return out


def _copy(source: Path, out: Path) -> Path:
    with source.open("rb") as content:
        return write_atomic(out, lambda file: shutil.copyfileobj(content, file, CHUNK))
