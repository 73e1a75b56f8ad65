"""Adapters built into their base: what is computed, what is copied, what is told, what is refused."""

import shutil
import struct

import gguf
import numpy as np
import pytest

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights import dequant, quantize
from ollama_ft.weights import merge as room
from ollama_ft.weights.adapter import convert_adapter, read_pairs
from ollama_ft.weights.merge import merge
from ollama_ft.weights.reader import open_gguf
from tests.engine import engine
from tests.test_adapter import IDS, saved, tiny_base, trained
from tests.tiny import VOCABULARY, tiny_model

SIMPLE = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
PACKED = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A float32 llama of two layers, and a GGUF adapter of it."""
    folder = tmp_path_factory.mktemp("tiny")
    base = tiny_base("llama", folder)
    peft = saved(trained(tiny_model("llama"), "all-linear"), folder / "peft")
    with open_gguf(base) as file:
        convert_adapter(peft, file, folder / "adapter.gguf", provenance={"run": "sha256:1"})
    return base, folder / "adapter.gguf"


# Packing


@pytest.mark.parametrize("kind", SIMPLE)
def test_llama_cpp_and_the_gguf_package_pack_the_same_bytes(kind, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((7, 256)).astype(np.float32)
    rows[3] = 0.0
    ours = quantize.quantize(rows, kind)
    monkeypatch.setattr(quantize, "_llama_cpp", lambda: None)
    assert np.array_equal(ours, quantize.quantize(rows, kind))


@pytest.mark.parametrize("kind", PACKED)
def test_what_only_llama_cpp_packs_is_read_back_as_it_was(kind):
    rows = np.random.default_rng(0).standard_normal((5, 512)).astype(np.float32)
    read = dequant.dequantize(quantize.quantize(rows, kind), kind).reshape(rows.shape)
    # rounding to so many bits for each value: 2 to 6 of them
    allowed = {"Q2_K": 0.4, "Q3_K": 0.2, "Q6_K": 0.03, "Q5_K": 0.06}.get(kind, 0.12)
    assert np.linalg.norm(read - rows) < allowed * np.linalg.norm(rows)


def test_without_llama_cpp_the_simple_types_alone_are_packed(monkeypatch):
    monkeypatch.setattr(quantize, "_llama_cpp", lambda: None)
    assert [k for k in (*SIMPLE, *PACKED) if quantize.can_quantize(k, 256)] == list(SIMPLE)
    with pytest.raises(Unsupported, match="packs 256 columns as Q4_K"):
        quantize.quantize(np.zeros((1, 256), np.float32), "Q4_K")


# Merging


def test_the_merged_model_says_what_base_and_adapter_say_together(tiny, tmp_path):
    base, adapter = tiny
    made = merge(base, adapter, tmp_path / "merged.gguf")
    with engine(base, adapter=adapter) as together, engine(made.path) as whole:
        wanted, found = (e.logprobs(IDS[:12], VOCABULARY) for e in (together, whole))
    assert np.abs(np.exp(wanted) - np.exp(found)).max() < 1e-4
    with engine(base) as bare:
        assert np.abs(np.exp(wanted) - np.exp(bare.logprobs(IDS[:12], VOCABULARY))).max() > 0.05


def test_each_changed_matrix_is_the_base_plus_scale_b_a(tiny, tmp_path):
    base, adapter = tiny
    made = merge(base, adapter, tmp_path / "merged.gguf")
    with open_gguf(base) as old, open_gguf(made.path) as new, open_gguf(adapter) as lora:
        alpha, pairs = read_pairs(lora)
        assert {cost.name for cost in made.costs} == set(pairs)
        for name, (a, b) in pairs.items():
            wanted = dequant.tensor(old, name) + np.float32(alpha / len(a)) * (b @ a)
            assert np.allclose(dequant.tensor(new, name), wanted, atol=1e-6)
    assert made.mean_error < 1e-6


def test_what_is_not_changed_is_copied_byte_for_byte(tiny, tmp_path):
    base, adapter = tiny
    made = merge(base, adapter, tmp_path / "merged.gguf", packed_as="Q8_0")
    changed = {cost.name for cost in made.costs}
    with open_gguf(base) as old, open_gguf(made.path) as new:
        assert list(new.tensors) == list(old.tensors)
        for name in set(old.tensors) - changed:
            assert bytes(new.raw(name)) == bytes(old.raw(name))
        for key in old.metadata:
            assert new.stored(key) == old.stored(key)
        assert new.text("ollama_ft.run") == "sha256:1"


def test_the_same_inputs_give_the_same_bytes_whatever_the_piece(tiny, tmp_path, monkeypatch):
    one = merge(*tiny, tmp_path / "one.gguf", packed_as="Q8_0")
    monkeypatch.setattr(room, "PIECE", 100)
    two = merge(*tiny, tmp_path / "two.gguf", packed_as="Q8_0")
    assert one.digest == two.digest
    assert one.costs[0].error == pytest.approx(two.costs[0].error)


def test_a_coarser_type_costs_more_and_is_told(tiny, tmp_path):
    kinds = ("F16", "Q8_0", "Q4_0")
    base = _packed(tiny[0], tmp_path / "base.gguf", "Q4_0")
    made = {k: merge(base, tiny[1], tmp_path / f"{k}.gguf", packed_as=k) for k in kinds}
    errors = [made[k].mean_error for k in kinds]
    assert errors == sorted(errors)
    assert errors[0] < 1e-2 < errors[-1]
    assert made["Q4_0"].size < made["Q8_0"].size < made["F16"].size
    assert made["Q8_0"].worst.error >= made["Q8_0"].mean_error
    assert made["Q8_0"].types == {"Q8_0": len(made["Q8_0"].costs)}


def test_keep_gives_each_matrix_the_type_that_it_had(tiny, tmp_path):
    base = _packed(tiny[0], tmp_path / "base.gguf", "Q4_0")
    made = merge(base, tiny[1], tmp_path / "merged.gguf")
    assert {(c.was, c.type) for c in made.costs} == {("Q4_0", "Q4_0")}
    with open_gguf(made.path) as new:
        assert new.whole("general.file_type") == 2


def test_the_file_type_is_the_new_one_and_the_old_importance_matrix_is_forgotten(tiny, tmp_path):
    base = _packed(tiny[0], tmp_path / "base.gguf", "Q4_0")
    made = merge(base, tiny[1], tmp_path / "merged.gguf", packed_as="Q8_0")
    with open_gguf(base) as old, open_gguf(made.path) as new:
        assert old.whole("general.file_type") == 2
        assert new.whole("general.file_type") == 7
        assert "quantize.imatrix.file" in old.metadata
        assert "quantize.imatrix.file" not in new.metadata


def test_a_type_that_nothing_here_packs_becomes_q8_0(tiny, tmp_path, monkeypatch):
    base = _packed(tiny[0], tmp_path / "base.gguf", "IQ4_NL")
    monkeypatch.setattr(quantize, "_llama_cpp", lambda: None)
    made = merge(base, tiny[1], tmp_path / "merged.gguf")
    assert made.types == {"Q8_0": len(made.costs)}


def test_an_adapter_of_another_base_is_refused_and_nothing_is_left(tiny, tmp_path):
    other = tiny_base("llama", tmp_path, intermediate_size=64)
    out = tmp_path / "merged.gguf"
    with pytest.raises(BadWeights, match=r"ffn_.* is "):
        merge(other, tiny[1], out)
    with pytest.raises(BadWeights, match="no LoRA adapter"):
        merge(tiny[0], tiny[0], out)
    qwen = tiny_base("qwen2", tmp_path)
    with pytest.raises(BadWeights, match="for llama, the base is qwen2"):
        merge(qwen, tiny[1], out)
    assert not list(tmp_path.glob("*merged*"))


def test_a_broken_adapter_is_refused(tiny, tmp_path):
    broken = tmp_path / "adapter.gguf"
    shutil.copy(tiny[1], broken)
    with open_gguf(broken) as file:
        info = next(i for n, i in file.tensors.items() if n.endswith("lora_b"))
    with broken.open("r+b") as file:
        file.seek(info.offset)
        file.write(struct.pack("<f", float("nan")))
    with pytest.raises(BadWeights, match="not finite"):
        merge(tiny[0], broken, tmp_path / "merged.gguf")


def _packed(base, path, kind):
    """The base with its matrices packed as `kind`, and what a quantiser writes beside them."""
    writer = gguf.GGUFWriter(path, "llama")
    with open_gguf(base) as old:
        for key in old.metadata:
            if key != "general.architecture":
                _copy(writer, key, old.metadata[key])
        writer.add_file_type(2)
        writer.add_string("quantize.imatrix.file", "some.dat")
        for name in old.tensors:
            values = dequant.tensor(old, name)
            if values.ndim == 2 and not values.shape[1] % 32:
                number = gguf.GGMLQuantizationType[kind]
                data = quantize.quantize(values, kind).reshape(len(values), -1)
                writer.add_tensor(name, data, raw_dtype=number)
            else:
                writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _copy(writer, key, value):
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
