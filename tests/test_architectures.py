"""Models from a GGUF alone: equal to transformers' originals, and to llama.cpp."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedModel

from benchmarks.fidelity import compare
from ollama_ft.weights.architectures import (
    SUPPORTED,
    hf_module_to_gguf,
    load_model,
    lora_targets,
    model_config,
    rows_from_gguf,
    rows_to_gguf,
)
from ollama_ft.weights.reader import open_gguf
from tests.engine import engine
from tests.tiny import HEAD, HEADS, HIDDEN, VOCABULARY, tiny_model, write_gguf

IDS = np.random.default_rng(3).integers(0, 255, 40).tolist()
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
SHORT, LONG = [1.0 + 0.1 * i for i in range(HEAD // 2)], [2.0 + i for i in range(HEAD // 2)]
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": SHORT,
    "long_factor": LONG,
    "original_max_position_embeddings": 256,
}
GEMMA3_ROPE = {
    "full_attention": LINEAR | {"rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


@dataclass(frozen=True)
class Case:
    """A tiny model, how it is written, and how close llama.cpp comes."""

    kind: str
    arch: str
    changes: dict[str, object] = field(default_factory=dict)
    metadata: dict[str, object] = field(default_factory=dict)
    extra: Callable[[PreTrainedModel], dict[str, np.ndarray]] = lambda model: {}
    close: float = 2e-4


def llama3_factors(model: PreTrainedModel) -> dict[str, np.ndarray]:
    # what llama.cpp's converter stores: how many times slower each frequency turns
    plain = 10000.0 ** -(np.arange(0, HEAD, 2) / HEAD)
    scaled = model.get_submodule("model.rotary_emb").inv_freq.numpy()
    return {"rope_freqs.weight": (plain / scaled).astype(np.float32)}


def longrope_factors(model: PreTrainedModel) -> dict[str, np.ndarray]:
    return {
        "rope_factors_long.weight": np.array(LONG, np.float32),
        "rope_factors_short.weight": np.array(SHORT, np.float32),
    }


LONGROPE_ATTENTION = float(np.sqrt(1 + np.log(512 / 256) / np.log(256)))
# llama.cpp looks Gemma's activation up in a table of float16
GELU = 1e-2
GEMMA2 = {
    "attention.sliding_window": 8,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 10.0,
}
CASES = {
    "llama": Case("llama", "llama"),
    "llama tied": Case("llama", "llama", {"tie_word_embeddings": True}),
    "llama with biases": Case("llama", "llama", {"attention_bias": True, "mlp_bias": True}),
    "llama linear": Case(
        "llama",
        "llama",
        {"rope_parameters": LINEAR},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "llama 3.1": Case("llama", "llama", {"rope_parameters": LLAMA3}, extra=llama3_factors),
    "mistral": Case("mistral", "llama", {"sliding_window": None}),
    "mistral with wide heads": Case(
        "mistral",
        "llama",
        {"sliding_window": None, "head_dim": 32},
        {"attention.key_length": 32, "attention.value_length": 32, "rope.dimension_count": 32},
    ),
    "qwen2": Case("qwen2", "qwen2"),
    "qwen2 yarn": Case(
        "qwen2",
        "qwen2",
        {"rope_parameters": YARN},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 128,
        },
    ),
    "qwen3": Case("qwen3", "qwen3", {"head_dim": 32}),
    "gemma2": Case(
        "gemma2",
        "gemma2",
        {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0},
        GEMMA2,
        close=GELU,
    ),
    "gemma3": Case(
        "gemma3",
        "gemma3",
        {"num_hidden_layers": 7, "rope_parameters": GEMMA3_ROPE},
        {
            "attention.sliding_window": 8,
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        close=GELU,
    ),
    "gemma3 pattern": Case(
        "gemma3",
        "gemma3",
        {"num_hidden_layers": 4, "sliding_window_pattern": 2},
        {
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": 2,
            "rope.freq_base": 1e6,
        },
        close=GELU,
    ),
    "phi3": Case(
        "phi3",
        "phi3",
        metadata={"rope.dimension_count": HEAD, "attention.sliding_window": 0},
    ),
    "phi3 partly rotated": Case(
        "phi3",
        "phi3",
        {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
            }
        },
        {"rope.dimension_count": HEAD // 2, "attention.sliding_window": 0},
    ),
    "phi3 longrope": Case(
        "phi3",
        "phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 256},
        {
            "rope.dimension_count": HEAD,
            "rope.scaling.original_context_length": 256,
            "rope.scaling.attn_factor": LONGROPE_ATTENTION,
            "attention.sliding_window": 0,
        },
        longrope_factors,
    ),
}


def written(case: Case, folder: Path) -> tuple[PreTrainedModel, Path]:
    model = tiny_model(case.kind, **case.changes)
    path = folder / "model.gguf"
    return model, write_gguf(model, case.arch, path, case.metadata, case.extra(model))


def logprobs(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_original_s_and_llama_cpp_s(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    original, path = written(case, tmp_path)
    with open_gguf(path) as file:
        ours = load_model(file)
    found, wanted = logprobs(ours, IDS), logprobs(original, IDS)
    assert (found - wanted).abs().max() < 1e-4
    with engine(path, context=256) as judge:
        judged = torch.from_numpy(judge.logprobs(IDS, VOCABULARY))
    assert (found - judged).abs().max() < case.close
    assert found.std() > 1  # else anything would be close


def test_the_long_factors_take_over_beyond_the_first_context(tmp_path: Path) -> None:
    original, path = written(CASES["phi3 longrope"], tmp_path)
    with open_gguf(path) as file:
        ours = load_model(file)
    ids = (IDS * 8)[:300]
    assert (logprobs(ours, ids) - logprobs(original, ids)).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3"])
def test_without_the_tensors_place_or_permutation_the_logits_would_differ(
    name: str, tmp_path: Path
) -> None:
    """The comparison above can fail: two rows of one matrix exchanged are seen."""
    original, path = written(CASES[name], tmp_path)
    with open_gguf(path) as file:
        ours = load_model(file)
    weight = next(value for key, value in ours.named_parameters() if "q" in key and value.ndim == 2)
    weight.data = weight.data[[1, 0, *range(2, len(weight))]]
    assert (logprobs(ours, IDS) - logprobs(original, IDS)).abs().max() > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_the_weights_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    original, path = written(CASES[name], tmp_path)
    with open_gguf(path) as file:
        ours = load_model(file)
    wanted = original.state_dict()
    assert ours.state_dict().keys() == wanted.keys()
    for key, value in ours.state_dict().items():
        # Gemma's norms lose a bit on their way through 1 + weight
        close = 1e-6 if "norm" in key and name.startswith("gemma") else 0
        assert (value - wanted[key]).abs().max() <= close, key


def test_the_model_is_ready_to_be_trained_around(tmp_path: Path) -> None:
    _, path = written(CASES["llama tied"], tmp_path)
    with open_gguf(path) as file:
        model = load_model(file, dtype=torch.bfloat16)
    assert not model.training and model.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(value.is_meta for value in [*model.parameters(), *model.buffers()])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.get_submodule("model.rotary_emb").inv_freq.dtype == torch.float32


def test_the_deepest_gemma_models_scale_their_scores_otherwise(tmp_path: Path) -> None:
    for arch, deepest in (("gemma2", 46), ("gemma3", 62)):
        for layers, wanted in ((3, 32), (deepest, HIDDEN // HEADS)):
            changes = {"num_hidden_layers": layers, "head_dim": 32}
            path = write_gguf(tiny_model(arch, **changes), arch, tmp_path / "deep.gguf")
            with open_gguf(path) as file:
                assert model_config(file).query_pre_attn_scalar == wanted


def test_the_bases_that_ollama_s_own_converter_writes_are_understood(tmp_path: Path) -> None:
    metadata = {"attention.sliding_window": 8, "rope.freq_base": 7e5}
    path = write_gguf(tiny_model("gemma3"), "gemma3", tmp_path / "a.gguf", metadata)
    content = path.read_bytes().replace(b"gemma3.rope.freq_base", b"gemma3.rope.freq_bas_")
    path.write_bytes(content)
    with open_gguf(path) as file:
        assert model_config(file).rope_parameters["full_attention"]["rope_theta"] == 10000.0
    model = tiny_model("gemma3")
    metadata |= {"rope.global.freq_base": 1e6, "rope.local.freq_base": 2e4}
    path = write_gguf(model, "gemma3", tmp_path / "b.gguf", metadata)
    content = path.read_bytes().replace(b"gemma3.rope.freq_base", b"gemma3.rope.freq_bas_")
    path.write_bytes(content)
    with open_gguf(path) as file:
        rope = model_config(file).rope_parameters
    assert rope["full_attention"]["rope_theta"] == 1e6
    assert rope["sliding_attention"]["rope_theta"] == 2e4


def test_a_gemma3_without_a_window_sees_everything_everywhere(tmp_path: Path) -> None:
    path = write_gguf(tiny_model("gemma3"), "gemma3", tmp_path / "wide.gguf")
    with open_gguf(path) as file:
        config = model_config(file)
    assert set(config.layer_types) == {"full_attention"}


def test_linear_layers_are_named_with_shapes_and_permuted_heads(tmp_path: Path) -> None:
    _, path = written(CASES["llama"], tmp_path)
    with open_gguf(path) as file:
        layers = hf_module_to_gguf(file)
        assert lora_targets(file) == (
            *("q_proj", "k_proj", "v_proj", "o_proj"),
            *("gate_proj", "up_proj", "down_proj"),
        )
    assert len(layers) == 14
    query, key = (
        layers["model.layers.1.self_attn.q_proj"],
        layers["model.layers.0.self_attn.k_proj"],
    )
    assert (query.tensor, query.shape, query.heads) == ("blk.1.attn_q.weight", (64, 64), 4)
    assert (key.tensor, key.shape, key.heads) == ("blk.0.attn_k.weight", (32, 64), 2)
    assert {name for name, layer in layers.items() if layer.heads} == {
        f"model.layers.{index}.self_attn.{leaf}"
        for index in (0, 1)
        for leaf in ("q_proj", "k_proj")
    }


def test_phi3_s_fused_layers_are_targets(tmp_path: Path) -> None:
    _, path = written(CASES["phi3"], tmp_path)
    with open_gguf(path) as file:
        assert lora_targets(file) == ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
        assert hf_module_to_gguf(file)["model.layers.0.mlp.gate_up_proj"].shape == (192, 64)


def test_permuting_rows_there_and_back_changes_nothing() -> None:
    there, back = rows_to_gguf(96, 3), rows_from_gguf(96, 3)
    assert there[back].tolist() == list(range(96)) and there[:4].tolist() == [0, 16, 1, 17]


def test_names_are_known_without_torch() -> None:
    code = (
        "import sys, ollama_ft.weights.architectures, ollama_ft.weights.adapter;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_supported_architectures_are_those_that_are_promised() -> None:
    assert sorted(SUPPORTED) == ["gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3"]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "positions"), [("smollm2_gguf", 512), ("gemma3_gguf", 128)])
def test_real_models_are_as_close_to_llama_cpp_as_its_own_rounding(
    model: str, positions: int, request: pytest.FixtureRequest
) -> None:
    """Mean KL at most 0.01 and the same likeliest token at 95 % of the positions."""
    assert compare(model, request.getfixturevalue(model), positions)


@pytest.mark.slow
def test_smollm2_is_bit_identical_to_transformers_own_loading(smollm2_gguf: Path) -> None:
    with open_gguf(smollm2_gguf) as file:
        ours = load_model(file)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, dtype=torch.float32
    )
    wanted = theirs.state_dict()
    assert ours.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in ours.state_dict().items())
    assert torch.equal(ours.model.rotary_emb.inv_freq, theirs.model.rotary_emb.inv_freq)
    ids = torch.arange(100, 164)[None]
    with torch.no_grad():
        assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)
