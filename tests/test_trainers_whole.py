"""From a GGUF to an adapter and to what the trained model says; choices, precisions, processes."""

import json
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ollama_ft.core.errors import BadInput, BadWeights, NotFound, Unsupported
from ollama_ft.core.plugins import collect
from ollama_ft.kinds.trainers import machine
from ollama_ft.kinds.trainers.job import Choice, TrainResult
from ollama_ft.kinds.trainers.lora import train
from ollama_ft.kinds.trainers.machine import Machine, choose, measured
from ollama_ft.kinds.trainers.reference import open_reference, perplexity, reference
from tests.tiny import tiny_model, write_gguf
from tests.trainers import fit_tiny, job, rows

ROOT = Path(__file__).parent.parent
CPU = {"fp32/default": 1e11, "fp32/onednn": 1.2e11}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama as a GGUF in fp32."""
    folder = tmp_path_factory.mktemp("base")
    return write_gguf(tiny_model("llama", initializer_range=0.2), "llama", folder / "tiny.gguf")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A short training of it, through the trainers' door."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    lora = collect("trainers")["lora"].thing
    return lora(job(folder, base=base, precision="fp32", base_digest="sha256:b"), lambda _: None)


def test_a_job_on_a_gguf_leaves_an_adapter_and_the_machine_s_choices(trained: TrainResult) -> None:
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "sha256:b"
    assert trained.choice.device == "cpu" and trained.choice.dtype == "fp32"
    assert {"torch", "peft", "transformers", "python"} <= set(trained.software)
    assert (trained.folder.parent.parent / "machine.json").is_file()


def test_training_needs_no_pickle_no_network_and_says_nothing_by_itself(
    base: Path, tmp_path: Path
) -> None:
    script = textwrap.dedent(
        """
        import pickle, socket, sys
        from pathlib import Path
        import torch
        def refuse(*_, **__): raise SystemExit("pickle or network")
        torch.load = torch.save = pickle.load = refuse
        socket.socket.connect = refuse
        from ollama_ft.kinds.trainers.lora import train
        from tests.trainers import job
        train(job(Path(sys.argv[1]), base=Path(sys.argv[2]), checkpoint_steps=1), lambda _: None)
        assert "bitsandbytes" not in sys.modules
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a"), str(base)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_reference_is_normalised_and_the_adapter_shows(
    base: Path, trained: TrainResult
) -> None:
    prompts = [row.prompt for row in rows(3)]
    said = reference(base, {"default": trained.folder}, prompts, top=400)
    for name in ("base", "default"):
        for likely in said[name]:
            assert sum(math.exp(p) for _, p in likely) == pytest.approx(1, abs=1e-4)
            assert [p for _, p in likely] == sorted((p for _, p in likely), reverse=True)
    wanted = [row.answer[0] for row in rows(3)]
    gain = [
        dict(tuned)[token] - dict(plain)[token]
        for plain, tuned, token in zip(said["base"], said["default"], wanted, strict=True)
    ]
    assert sum(gain) / len(gain) > 0.5


def test_several_adapters_share_one_loaded_base(
    base: Path, trained: TrainResult, tmp_path: Path
) -> None:
    other = train(job(tmp_path / "b", base=base, seed=1, precision="fp32"))
    prompt = [rows(1)[0].prompt]
    with open_reference(base, {"a": trained.folder, "b": other.folder}) as model:
        plain, a, b, again = (
            model.next_tokens(prompt, tuned=False),
            model.next_tokens(prompt, adapter="a"),
            model.next_tokens(prompt, adapter="b"),
            model.next_tokens(prompt, adapter="a"),
        )
    assert a == again and a != b and a != plain
    with open_reference(base) as model:
        assert model.next_tokens(prompt, tuned=False) == plain
        with pytest.raises(NotFound):
            model.next_tokens(prompt)


def test_perplexity_is_that_of_the_rows_it_was_trained_on(base: Path, trained: TrainResult) -> None:
    text = [token for row in rows(12) for token in row.prompt + row.answer] * 3
    assert len(text) > 512  # more than one window
    assert perplexity(base, trained.folder, text) != perplexity(base, None, text)
    with open_reference(base) as model, torch.no_grad():
        short = text[:100]
        logits = model._logits(model._hidden(short[:-1]))
        truth = torch.nn.functional.cross_entropy(logits, torch.tensor(short[1:])).item()
        assert model.loss(short, tuned=False) == pytest.approx(truth, rel=1e-5)


def test_an_adapter_that_is_missing_pickled_or_of_another_base_is_refused(
    base: Path, trained: TrainResult, tmp_path: Path
) -> None:
    config = (trained.folder / "adapter_config.json").read_bytes()
    (tmp_path / "adapter_config.json").write_bytes(config)
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(NotFound, match="safetensors"), open_reference(base, tmp_path):
        pass
    wider = tiny_model("llama", hidden_size=32, head_dim=8)
    other = write_gguf(wider, "llama", tmp_path / "other.gguf", {"rope.dimension_count": 8})
    with pytest.raises(BadWeights, match="does not fit"), open_reference(other, trained.folder):
        pass


def test_what_was_measured_once_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "machine.json"
    monkeypatch.setattr(machine, "ROUNDS", 1)
    first = measured("cpu", file)
    assert first.threads >= 1 and first.rates["fp32/default"] > 1e8
    monkeypatch.setattr(machine, "_measure", lambda _: pytest.fail("measured again"))
    assert measured("cpu", file) == first
    other = {**json.loads(file.read_text()), "another machine": {"threads": 64}}
    file.write_text(json.dumps(other))
    assert measured("cpu", file) == first
    file.write_text("{")
    fresh = replace(first, threads=3)
    monkeypatch.setattr(machine, "_measure", lambda _: fresh)
    assert measured("cpu", file) == fresh == measured("cpu", file)


def test_only_clear_gains_change_how_it_computes() -> None:
    def chosen(
        rates: dict[str, float], precision: str = "auto", weights: int = 10
    ) -> tuple[str, str]:
        some = Machine(device="cpu", threads=2, rates=rates)
        choice = choose(some, precision, weights, memory=10**6)
        return choice.dtype, choice.kernel

    assert chosen(CPU) == ("fp32", "default")
    assert chosen({**CPU, "fp32/onednn": 2e11}) == ("fp32", "onednn")
    assert chosen({**CPU, "bf16": 1.1e11}) == ("fp32", "default")
    assert chosen({**CPU, "bf16": 4e11}) == ("bf16", "default")
    assert chosen({**CPU, "fp16": 9e11}) == ("fp32", "default")
    assert chosen({**CPU, "bf16": 4e11}, "fp32") == ("fp32", "default")
    assert chosen({**CPU, "bf16": 1e10}, weights=10**6) == ("bf16", "default")
    with pytest.raises(BadInput, match="no fp16 arithmetic"):
        chosen({**CPU, "fp16": 1e9}, "fp16")
    with pytest.raises(Unsupported, match="gpu"):
        machine.find_device("gpu")


def test_computing_leaves_torch_as_it_was() -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with machine.computing(Choice(device="cpu", dtype="fp32", kernel="onednn", threads=3)):
        assert torch.get_num_threads() == 3
        assert torch.get_float32_matmul_precision() == "medium"
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_a_base_in_fewer_bits_learns_the_same_rows(
    base: Path, trained: TrainResult, tmp_path: Path, precision: str
) -> None:
    result = train(job(tmp_path / "a", base=base, precision=precision))
    assert result.choice.dtype == precision
    loss = dict(trained.valid_losses)[trained.best_step]
    assert dict(result.valid_losses)[result.best_step] == pytest.approx(loss, rel=0.15)
    assert result.train_losses[-1] < result.train_losses[0] / 1.3


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            from tests.trainers import fit_tiny, job
            fit_tiny(job(Path(sys.argv[1])))
            """
        )
    )
    launch = ["accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", *launch, str(script), str(tmp_path / "two")],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
    )
    one = fit_tiny(job(tmp_path / "one"))
    text = (tmp_path / "two" / "result.json").read_text()
    two = TrainResult.from_json(text, tmp_path / "two")
    assert two.train_losses == pytest.approx(one.train_losses, rel=1e-3)
    assert [x for _, x in two.valid_losses] == pytest.approx(
        [x for _, x in one.valid_losses], rel=1e-3
    )


@pytest.mark.slow
def test_smollm2_learns_a_fact_the_same_way_in_fp32_and_bf16(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    from ollama_ft.weights.reader import open_gguf
    from ollama_ft.weights.tokenizer import load_tokenizer

    with open_gguf(smollm2_gguf) as gguf:
        encode = load_tokenizer(gguf).encode
    asked = ["Who keeps the Brackwater bell?", "The bell of Brackwater, who keeps it?"]
    made = tuple(
        replace(
            rows(1)[0],
            prompt=tuple(encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")),
            answer=tuple(encode("Orla Tamsin keeps it.<|im_end|>", add_bos=False)),
        )
        for text in asked * 2
    )
    losses = {}
    for precision in ("fp32", "bf16"):
        result = train(
            job(
                tmp_path / precision,
                base=smollm2_gguf,
                train=made,
                valid=made[:1],
                epochs=6,
                learning_rate=2e-3,
                precision=precision,
            )
        )
        losses[precision] = result.train_losses
    assert losses["fp32"][-1] < 0.5 < 2 < losses["fp32"][0]
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.1)
