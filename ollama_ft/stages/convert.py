"""From the trainer's PEFT folder to the GGUF that is served.

Reads:  runs, bases
Writes: adapters
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from ollama_ft.core.catalog import append, newest, row
from ollama_ft.core.files import artefact
from ollama_ft.core.home import Home
from ollama_ft.core.records import Adapter, Base, Run
from ollama_ft.core.sqlite import Database
from ollama_ft.runtime.store import Store


def convert(db: Database, home: Home, run: Run) -> Adapter:
    """Convert the run's adapter, checked against the base's own tensors; return its row.

    An earlier row is returned if there is one; its file is made again if `gc` let it go.

    Raises BadWeights or Unsupported with the reason; nothing is left behind then.
    """
    found = newest(db, Adapter, run=run.key)
    if found and artefact(home.data("adapters"), found.digest, ".gguf").is_file():
        return found
    from ollama_ft.weights.adapter import convert_adapter
    from ollama_ft.weights.reader import open_gguf

    base = row(db, Base, run.base)
    folder = home.data("adapters")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(dir=folder, prefix=".convert-") as temporary,
        open_gguf(Store(home.models).blob_path(base.blob_digest)) as gguf,
    ):
        made = convert_adapter(
            run_folder(home, run) / "adapter",
            gguf,
            Path(temporary) / "adapter.gguf",
            provenance={"base": base.blob_digest, "run": run.digest, "prompt": run.prompt_digest},
        )
        made.path.replace(artefact(folder, made.digest, ".gguf"))
    if found and found.digest == made.digest:
        return found
    return append(
        db,
        Adapter(
            run=run.key,
            digest=made.digest,
            size=made.size,
            tensors=made.tensors,
            max_error=made.max_error,
        ),
    )


def run_folder(home: Home, run: Run) -> Path:
    """Where the run's PEFT adapter and its curves are kept."""
    return artefact(home.data("runs"), run.digest, "")
