"""Adapters: the GGUF computes exactly what PEFT computes, in numpy and in llama.cpp."""

import warnings
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel

from ollama_ft.core.errors import BadWeights
from ollama_ft.weights import adapter as room
from ollama_ft.weights import dequant
from ollama_ft.weights.adapter import AdapterFile, adapter_to_peft, convert_adapter
from ollama_ft.weights.architectures import load_model, lora_targets, rows_from_gguf
from ollama_ft.weights.reader import GGUF, open_gguf
from tests.engine import engine
from tests.tiny import VOCABULARY, tiny_model, write_gguf

IDS = np.random.default_rng(3).integers(0, 255, 40).tolist()
KINDS = {
    "llama": ("llama", {}),
    "mistral": ("llama", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma2": ("gemma2", {}),
    "gemma3": ("gemma3", {"num_hidden_layers": 4}),
    "phi3": ("phi3", {}),
}
METADATA = {
    "gemma2": {"attention.sliding_window": 8},
    "gemma3": {"attention.sliding_window": 8, "rope.freq_base": 1e6},
    "phi3": {"rope.dimension_count": 16, "attention.sliding_window": 0},
}


def tiny_base(kind: str, folder: Path, **changes: object) -> Path:
    arch, usual = KINDS[kind]
    model = tiny_model(kind, **(usual | changes))
    return write_gguf(model, arch, folder / "base.gguf", METADATA.get(kind))


def trained(model: PreTrainedModel, targets: object, **fields: object) -> PeftModel:
    """The model with LoRA that has learnt something, namely noise."""
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0} | fields
    torch.manual_seed(11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = get_peft_model(
            model, LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **settings)
        )
    for name, value in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value.data, 0.0, 0.3)
    return peft.eval()


def saved(peft: PeftModel, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.save_pretrained(folder)
    return folder


def logprobs(model: torch.nn.Module, ids: list[int] = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)


def converted(base: Path, folder: Path, out: Path) -> AdapterFile:
    with open_gguf(base) as file:
        return convert_adapter(folder, file, out, provenance={"base": "sha256:0", "run": "r1"})


SCALES: dict[str, dict[str, object]] = {
    "alpha over rank": {},
    "rank-stabilised": {"use_rslora": True},
    "fractions": {"r": 3, "lora_alpha": 7},
    "ranks by module": {"rank_pattern": {"q_proj": 2, "down_proj": 7}},
    "alphas by module": {"alpha_pattern": {"k_proj": 3, "layers.1.mlp.up_proj": 32}},
    "all at once": {
        "use_rslora": True,
        "rank_pattern": {r"model.layers.0.self_attn.(q|k)_proj": 6, "gate_proj": 1},
        "alpha_pattern": {"layers.1.self_attn.q_proj": 1, "o_proj": 64},
    },
    "one layer only": {"layers_to_transform": [1]},
}


@pytest.mark.parametrize("name", SCALES)
def test_what_is_written_is_peft_s_own_change_of_each_weight(name: str, tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        peft = trained(load_model(file), list(lora_targets(file)), **SCALES[name])
        made = convert_adapter(
            saved(peft, tmp_path / "peft"), file, tmp_path / "adapter.gguf", provenance={}
        )
    deltas = {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach().numpy()
        for name, module in peft.named_modules()
        if hasattr(type(module), "get_delta_weight")
    }
    leaf = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    leaf |= {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    with open_gguf(made.path) as file:
        alpha = file.real("adapter.lora.alpha")
        assert made.tensors == len(file.tensors) == 2 * len(deltas)
        for module, delta in deltas.items():
            _, _, index, _, last = module.split(".")
            tensor = f"blk.{index}.{leaf[last]}.weight"
            a = dequant.tensor(file, f"{tensor}.lora_a").astype(np.float64)
            b = dequant.tensor(file, f"{tensor}.lora_b").astype(np.float64)
            found = alpha / len(a) * b @ a  # as llama.cpp multiplies
            if last in ("q_proj", "k_proj"):
                found = found[rows_from_gguf(len(found), 4 if last == "q_proj" else 2)]
            assert np.abs(found - delta).max() < 1e-5 * np.abs(delta).max(), module
    assert made.max_error < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_answers_as_peft_does(kind: str, tmp_path: Path) -> None:
    base = tiny_base(kind, tmp_path)
    with open_gguf(base) as file:
        plain = load_model(file)
        before = logprobs(plain)
        peft = trained(plain, list(lora_targets(file)), **SCALES["rank-stabilised"])
    made = converted(base, saved(peft, tmp_path / "peft"), tmp_path / "adapter.gguf")
    with engine(base, adapter=made.path, context=128) as judge:
        served = torch.from_numpy(judge.logprobs(IDS, VOCABULARY))
        unadapted = torch.from_numpy(judge.logprobs(IDS[:8], VOCABULARY, scale=0.0))
    wanted = logprobs(peft)
    close = (
        2e-2 if kind.startswith("gemma") else 1e-3
    )  # Gemma's activation is a float16 table there
    assert (served - wanted).abs().max() < close
    assert (unadapted - before[:8]).abs().max() < close
    assert (wanted - before).abs().max() > 1  # the adapter matters


def test_without_the_permutation_llama_cpp_answers_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        peft = trained(load_model(file), ["q_proj", "k_proj"])
    monkeypatch.setattr(room, "rows_to_gguf", lambda rows, heads: np.arange(rows))
    monkeypatch.setattr(room, "rows_from_gguf", lambda rows, heads: np.arange(rows))
    made = converted(base, saved(peft, tmp_path / "peft"), tmp_path / "adapter.gguf")
    with engine(base, adapter=made.path, context=128) as judge:
        served = torch.from_numpy(judge.logprobs(IDS, VOCABULARY))
    assert (served - logprobs(peft)).abs().max() > 0.1


def test_a_wrong_scale_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        peft = trained(load_model(file), ["q_proj"])
    folder = saved(peft, tmp_path / "peft")
    write = room._write
    monkeypatch.setattr(
        room, "_write", lambda path, arch, alpha, *rest: write(path, arch, 2 * alpha, *rest)
    )
    with pytest.raises(BadWeights, match=r"differs from PEFT's by 100\.00%"):
        converted(base, folder, tmp_path / "out" / "adapter.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        folder = saved(trained(load_model(file), "all-linear"), tmp_path / "peft")
    first = converted(base, folder, tmp_path / "a.gguf")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(dict(reversed(tensors.items())), folder / "adapter_model.safetensors")
    second = converted(base, folder, tmp_path / "elsewhere" / "b.gguf")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == second.digest and first.size == second.path.stat().st_size


def test_llama_cpp_s_own_converter_wrote_the_same_bits(tmp_path: Path) -> None:
    """tests/data/upstream_lora/converted.gguf is what convert_lora_to_gguf.py made of that folder."""
    folder = Path(__file__).parent / "data" / "upstream_lora"
    made = converted(tiny_base("llama", tmp_path), folder, tmp_path / "adapter.gguf")
    with open_gguf(made.path) as ours, open_gguf(folder / "converted.gguf") as theirs:
        assert ours.tensors.keys() == theirs.tensors.keys()
        assert all(np.array_equal(ours.raw(name), theirs.raw(name)) for name in ours.tensors)
        for key in ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha"):
            assert ours.metadata[key] == theirs.metadata[key]


def test_the_file_says_what_it_is_and_where_it_came_from(tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        folder = saved(trained(load_model(file), ["v_proj"]), tmp_path / "peft")
    made = converted(base, folder, tmp_path / "adapter.gguf")
    with open_gguf(made.path) as file:
        assert dict(file.metadata) == {
            "general.architecture": "llama",
            "general.type": "adapter",
            "adapter.type": "lora",
            "adapter.lora.alpha": 4.0,
            "ollama_ft.base": "sha256:0",
            "ollama_ft.run": "r1",
        }
        assert list(file.tensors) == [
            f"blk.{index}.attn_v.weight.lora_{half}" for index in (0, 1) for half in "ab"
        ]
    assert made.ranks == (4,) and made.alpha == 4.0 and made.tensors == 4


def test_a_head_of_its_own_can_be_adapted_in_llama_cpp_too(tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        peft = trained(load_model(file), ["lm_head", "q_proj"])
    made = converted(base, saved(peft, tmp_path / "peft"), tmp_path / "adapter.gguf")
    with engine(base, adapter=made.path, context=128) as judge:
        served = torch.from_numpy(judge.logprobs(IDS, VOCABULARY))
    assert (served - logprobs(peft)).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_adapters_are_widened(dtype: torch.dtype, tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        peft = trained(load_model(file), ["q_proj", "down_proj"]).to(dtype)
    made = converted(base, saved(peft, tmp_path / "peft"), tmp_path / "adapter.gguf")
    with open_gguf(made.path) as file:
        assert {info.type for info in file.tensors.values()} == {"F32"}
    assert made.max_error < 1e-6


def test_large_adapters_are_written_in_half_where_that_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        peft = trained(load_model(file), ["q_proj"])
    first = dict(peft.named_parameters())
    tiny = next(value for name, value in first.items() if "layers.1" in name and "lora_B" in name)
    tiny.data *= 1e-7  # would vanish in float16
    monkeypatch.setattr(room, "FLOAT32_UP_TO", 0)
    made = converted(base, saved(peft, tmp_path / "peft"), tmp_path / "adapter.gguf")
    with open_gguf(made.path) as file:
        kinds = {name: info.type for name, info in file.tensors.items()}
    assert kinds.pop("blk.1.attn_q.weight.lora_b") == "F32"
    assert set(kinds.values()) == {"F16"}
    assert 1e-6 < made.max_error < 2e-3


@pytest.mark.parametrize("name", SCALES)
def test_the_way_back_gives_peft_the_same_model(name: str, tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        peft = trained(load_model(file), list(lora_targets(file)), **SCALES[name])
        wanted = logprobs(peft)
        made = converted(base, saved(peft, tmp_path / "peft"), tmp_path / "adapter.gguf")
        folder = adapter_to_peft(made.path, file, tmp_path / "back")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT asks transformers for something old
            again = PeftModel.from_pretrained(load_model(file), folder).eval()
        assert (logprobs(again) - wanted).abs().max() < 1e-4
        twice = convert_adapter(folder, file, tmp_path / "twice.gguf", provenance={})
    assert twice.tensors == made.tensors and twice.ranks == made.ranks


def test_the_way_back_refuses_what_is_no_adapter_of_this_base(tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    with open_gguf(base) as file:
        made = converted(
            base,
            saved(trained(load_model(file), ["q_proj"]), tmp_path / "peft"),
            tmp_path / "a.gguf",
        )
    with (
        open_gguf(tiny_base("llama", tmp_path, hidden_size=32, head_dim=8)) as other,
        pytest.raises(BadWeights, match="does not fit"),
    ):
        adapter_to_peft(made.path, other, tmp_path / "back")
    with open_gguf(base) as file, pytest.raises(BadWeights, match="no LoRA"):
        adapter_to_peft(base, file, tmp_path / "back")


def as_float32(source: GGUF, path: Path) -> Path:
    """The same model with every tensor unpacked, so that llama.cpp computes without rounding."""
    reader = gguf.GGUFReader(source.path)
    writer = gguf.GGUFWriter(path, source.architecture)
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture", "general.file_type")):
            kind = field.types[0]
            sub = field.types[1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, source.metadata[key], kind, sub)
    for name in source.tensors:
        writer.add_tensor(name, dequant.tensor(source, name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.slow
def test_smollm2_with_an_adapter_is_served_as_it_was_trained(
    smollm2_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """On the float32 model, where llama.cpp's own rounding does not hide a wrong converter."""
    with open_gguf(smollm2_gguf) as source:
        base = as_float32(source, tmp_path / "base.gguf")
        peft = trained(load_model(source), list(lora_targets(source)), r=8, use_rslora=True)
    for name, value in peft.named_parameters():
        if "lora_B" in name:
            value.data *= 0.02
    folder = saved(peft, tmp_path / "peft")
    made = converted(base, folder, tmp_path / "adapter.gguf")
    monkeypatch.setattr(room, "rows_to_gguf", lambda rows, heads: np.arange(rows))
    monkeypatch.setattr(room, "rows_from_gguf", lambda rows, heads: np.arange(rows))
    wrong = converted(base, folder, tmp_path / "wrong.gguf")
    ids = np.random.default_rng(1).integers(200, 40000, 24).tolist()
    wanted = logprobs(peft, ids).numpy()
    good, bad = (gap(base, file.path, ids, wanted) for file in (made, wrong))
    record_property("max", float(good[0]))
    record_property("max without the permutation", float(bad[0]))
    assert made.max_error < 1e-6
    assert good[0] < 0.01 and good[1] == 1.0
    assert bad[0] > 10 * good[0]


def gap(base: Path, adapter: Path, ids: list[int], wanted: np.ndarray) -> tuple[float, float]:
    """The largest difference of log p over the likeliest 200 tokens, and how often the first agrees."""
    largest, first = 0.0, 0
    with engine(base, adapter=adapter, context=128) as judge:
        for end in range(1, len(ids) + 1):
            top = judge.next_logprobs(ids[:end], 200)
            row = wanted[end - 1]
            largest = max(largest, max(abs(row[token] - value) for token, value in top.items()))
            first += int(max(top, key=top.__getitem__) == row.argmax())
    return largest, first / len(ids)
