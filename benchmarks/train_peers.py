"""LLaMA-Factory and TRL on the rows of case (a), each in a virtual environment made here.

Called by benchmarks/train.py --peers; the environments stay in .cache/peers and are some GB each.
TRL gets our token ids; LLaMA-Factory reads text and renders its own ChatML, whose prompts are the
same tokens, and trains one token more a row (the line break behind the turn's end).
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
import venv
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.train_cases import CASES, DATA, SEED, SYSTEM, in_batches, make_recipe, make_rows
from benchmarks.train_runs import Figures

CACHE = Path(__file__).parent.parent / ".cache" / "peers"
PEERS = {"TRL SFTTrainer": "trl", "LLaMA-Factory": "llamafactory"}

TRL = """
    import json, sys, time
    rows, model, out = json.load(open(sys.argv[1])), *sys.argv[2:4]
    steps, batch = map(int, sys.argv[4:])
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        times, losses = [], []
        def on_step_begin(self, *_, **__): self.start = time.perf_counter()
        def on_step_end(self, *_, **__): self.times.append(time.perf_counter() - self.start)
        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in (logs or {}): self.losses.append(float(logs["loss"]))

    clock = Clock()
    SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        args=SFTConfig(
            output_dir=out, per_device_train_batch_size=batch, max_steps=steps, learning_rate=1e-3,
            logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False, fp16=False,
            max_length=None, packing=False, gradient_checkpointing=False, completion_only_loss=True,
        ),
        callbacks=[clock],
    ).train()
    print(json.dumps({"step_seconds": clock.times, "losses": clock.losses}))
"""

LLAMAFACTORY = """
    import importlib.machinery, json, sys, time, types
    sys.modules["torchaudio"] = stub = types.ModuleType("torchaudio")  # a CUDA build would crash
    stub.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    config = json.load(open(sys.argv[1]))
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        times, losses = [], []
        def on_step_begin(self, *_, **__): self.start = time.perf_counter()
        def on_step_end(self, *_, **__): self.times.append(time.perf_counter() - self.start)
        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in (logs or {}): self.losses.append(float(logs["loss"]))

    clock = Clock()
    run_exp(config, callbacks=[clock])
    print(json.dumps({"step_seconds": clock.times, "losses": clock.losses}))
"""


def run_peers(gguf: Path, steps: int, threads: int) -> dict[str, dict[str, Any]]:
    """The figures of each peer by its name; one that cannot be installed or run is left out."""
    model = _export(gguf)
    found = {}
    for title, name in PEERS.items():
        try:
            python = _environment(name)
            found[title] = _run(name, python, gguf, model, steps, threads)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"{title} did not run: {(error.stderr or '')[-1500:]}\n")
    return found


def _environment(name: str) -> Path:
    folder = CACHE / name
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    # The torch that we run on, so that the same kernels are compared.
    subprocess.run([*pip, f"torch=={version('torch').split('+')[0]}"], check=True)
    subprocess.run([*pip, name, "peft"], check=True, capture_output=True, text=True)
    if name == "llamafactory":
        remove = [
            str(python),
            "-m",
            "pip",
            "uninstall",
            "-y",
            "--quiet",
            "torchvision",
            "torchaudio",
        ]
        subprocess.run(remove, check=True)
    (folder / "ready").touch()
    return python


def _export(gguf: Path) -> Path:
    """The base as a folder that both can load: fp32 weights, configuration, tokenizer."""
    folder = CACHE / "base"
    if (folder / "tokenizer_config.json").exists():
        return folder
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    from ollama_ft.kinds.trainers.model import load_base

    model = load_base(gguf, "fp32", "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if k not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return folder


def _run(
    name: str, python: Path, gguf: Path, model: Path, steps: int, threads: int
) -> dict[str, Any]:
    rows = make_rows("a", gguf, steps)
    batches = in_batches("a", rows)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        arguments = (_trl if name == "trl" else _llamafactory)(folder, batches, model, steps)
        script = folder / "run.py"
        script.write_text(textwrap.dedent(TRL if name == "trl" else LLAMAFACTORY))
        start = time.perf_counter()
        measured = [sys.executable, "-c", MEASURE, str(python), str(script), *arguments]
        done = subprocess.run(
            measured,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    *_, said, peak = done.stdout.strip().splitlines()
    figures = Figures(
        **json.loads(said),
        step_tokens=[sum(map(len, batch)) for batch in batches],
        peak_bytes=int(peak),
        whole_seconds=time.perf_counter() - start,
    )
    return asdict(figures)


# Runs a command and prints the most memory that it had resident.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def _trl(folder: Path, batches: list[list[Any]], model: Path, steps: int) -> list[str]:
    rows = [
        {
            "input_ids": [*row.prompt, *row.answer],
            "completion_mask": [0] * len(row.prompt) + [1] * len(row.answer),
        }
        for batch in batches
        for row in batch
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    size = str(CASES["a"].batch)
    return [str(folder / "rows.json"), str(model), str(folder / "out"), str(steps), size]


def _llamafactory(folder: Path, batches: list[list[Any]], model: Path, steps: int) -> list[str]:
    facts = [json.loads(line) for line in (DATA / "faq.jsonl").read_text().splitlines()]
    count = sum(map(len, batches))
    rows = [
        {"instruction": f["instruction"], "input": "", "output": f["output"], "system": SYSTEM}
        for f in (facts[i % len(facts)] for i in range(count))
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    info = {"rows": {"file_name": "rows.json", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    recipe = make_recipe("a", "fp32")
    config = {
        "model_name_or_path": str(model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": recipe.rank,
        "lora_alpha": int(recipe.alpha),
        "lora_target": "all",
        "dataset": "rows",
        "dataset_dir": str(folder),
        "template": "chatml",
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": recipe.batch_size,
        "max_steps": steps,
        "learning_rate": recipe.learning_rate,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_gradient_checkpointing": True,
        "seed": SEED,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return [str(folder / "config.json")]
