"""An adapter of mlx-lm says in PEFT's form what it said in its own."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights.mlx_folder import is_mlx, mlx_to_peft
from ollama_ft.weights.peft_folder import read_peft
from tests.loras import mlx_folder, peft_folder


@pytest.fixture
def folder(tmp_path, smollm2_gguf):
    return mlx_folder(tmp_path / "mlx", smollm2_gguf)


def changed(folder, **keys):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder


def with_tensors(folder, change):
    path = folder / "adapters.safetensors"
    save_file(change(load_file(path)), path)
    return folder


def test_it_computes_what_the_same_adapter_of_peft_computes(folder, tmp_path, smollm2_gguf):
    ours = read_peft(mlx_to_peft(folder, tmp_path / "out"))
    theirs = read_peft(peft_folder(tmp_path / "peft", smollm2_gguf))
    assert [pair.module for pair in ours] == [pair.module for pair in theirs]
    for one, two in zip(ours, theirs, strict=True):
        assert one.scale == two.scale == 2.0
        assert np.array_equal(one.a, two.a)
        assert np.array_equal(one.b, two.b)


def test_a_scale_is_not_divided_by_the_rank(folder, tmp_path):
    made = mlx_to_peft(
        changed(folder, lora_parameters={"rank": 4, "scale": 20.0}), tmp_path / "out"
    )
    assert {pair.scale for pair in read_peft(made)} == {20.0}


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_other_kinds_of_training_are_refused_by_name(folder, tmp_path, kind):
    with pytest.raises(Unsupported, match=kind):
        mlx_to_peft(changed(folder, fine_tune_type=kind), tmp_path / "out")


@pytest.mark.parametrize(
    "parameters",
    [None, {}, {"rank": 0, "scale": 1}, {"rank": "8", "scale": 1}, {"rank": 10**9, "scale": 1}],
)
def test_a_rank_or_scale_without_sense_is_refused(folder, tmp_path, parameters):
    with pytest.raises(BadWeights, match="rank"):
        mlx_to_peft(changed(folder, lora_parameters=parameters), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "shape", "error"),
    [
        ("model.layers.0.mlp.down_proj.m", (4,), Unsupported),
        ("model.embed_tokens.lora_a", (100, 4), Unsupported),
        ("model.layers.0.mlp.down_proj.lora_a", (8, 5), BadWeights),
        ("model.layers.0.mlp.switch.lora_a", (2, 4, 8), BadWeights),
    ],
)
def test_what_is_no_lora_of_a_linear_layer_is_refused(folder, tmp_path, name, shape, error):
    more = {name: np.zeros(shape, np.float32)}
    with pytest.raises(error, match=name.rpartition(".")[0].replace(".", r"\.")):
        mlx_to_peft(with_tensors(folder, lambda found: found | more), tmp_path / "out")


def test_half_of_a_pair_is_refused(folder, tmp_path):
    def without_one(found):
        return dict(sorted(found.items())[1:])

    with pytest.raises(BadWeights, match="only one half"):
        read_peft(mlx_to_peft(with_tensors(folder, without_one), tmp_path / "out"))


def test_a_config_that_is_none_is_refused(folder, tmp_path):
    (folder / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(BadWeights, match="not JSON"):
        mlx_to_peft(folder, tmp_path / "out")


def test_a_peft_folder_is_not_taken_for_mlx_lms(folder, tmp_path, smollm2_gguf):
    assert is_mlx(folder)
    assert not is_mlx(peft_folder(tmp_path / "peft", smollm2_gguf))
