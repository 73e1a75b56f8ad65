"""The embedded runtime against llama.cpp's own server: same model, same build, same run.

    python -m benchmarks.runtime [smollm2|gemma3] [rounds]      # a minute or two on two cores

Both are asked over HTTP with streaming, in turns: the runtime by Ollama's /api/generate, the server
(the one that xllamacpp carries, in a process of its own) by its /completion. Two figures for each:
tokens written in a second, from the first token to the last; and tokens of a prompt read in a
second, from the request to the first token. Every prompt is new, so that no cache answers.
The ratio is the median over rounds of one after the other; it fails below 0.9. On a machine with
other work both lose time to it, and the processor's seconds are the fairer figure: they are told
for all processes of each side together.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from ollama_ft.core.files import digest_file
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.launch import start_embedded
from ollama_ft.runtime.publish import ensure_base
from tests.conftest import MODELS
from tests.models import fetch

LEAST = 0.9
WRITTEN = 128  # tokens
CONTEXT = 4096
READ = 600  # words of a long prompt
OPTIONS = {"temperature": 0, "seed": 0, "num_ctx": CONTEXT, "repeat_penalty": 1.0}
SERVER = """
import json, os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.port = sys.argv[1], int(sys.argv[2]), 0
params.n_parallel = 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[3])
out = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
server = xllamacpp.Server(params)
print(server.listening_address, file=out, flush=True)
sys.stdin.read()
os._exit(0)
"""

Ask = Callable[[str, int], tuple[float, float, int]]


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "smollm2"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    model = fetch(name, MODELS)
    threads = len(os.sched_getaffinity(0))
    print(f"{model.name}, {threads} threads, {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    with own_server(model, threads) as theirs, embedded(model) as ours:
        for ask in (theirs, ours):
            ask("Warm up.", 8)
        writing = compare("writing", theirs, ours, rounds, 8, WRITTEN)
        reading = compare("reading", theirs, ours, rounds, READ, 1)
    if min(writing, reading) < LEAST:
        sys.exit(1)


def compare(what: str, theirs: Ask, ours: Ask, rounds: int, words: int, tokens: int) -> float:
    chance = random.Random(what)
    speeds: dict[Ask, list[float]] = {theirs: [], ours: []}
    costs: dict[Ask, list[float]] = {theirs: [], ours: []}  # seconds of the processor for a token
    for place in range(rounds):
        for ask in (theirs, ours) if place % 2 else (ours, theirs):
            prompt = " ".join(chance.choice(WORDS) for _ in range(words))
            before = processor_seconds()
            to_first, after, counted = ask(prompt, tokens)
            costs[ask].append((processor_seconds() - before) / counted)
            speeds[ask].append(counted / (after if what == "writing" else to_first))
    for who, ask in (("llama.cpp's server", theirs), ("embedded runtime", ours)):
        best, middle = max(speeds[ask]), statistics.median(speeds[ask])
        cost = 1000 * statistics.median(costs[ask])
        print(
            f"{what}  {who:<20} {middle:8.1f} tokens/s (best {best:.1f}), "
            f"{cost:.2f} ms of processor a token"
        )
    ratio = statistics.median(o / t for o, t in zip(speeds[ours], speeds[theirs], strict=True))
    frugal = statistics.median(t / o for o, t in zip(costs[ours], costs[theirs], strict=True))
    print(f"{what}  ratio {ratio:.3f} in speed, {frugal:.3f} in processor seconds")
    return ratio


def processor_seconds() -> float:
    """Of all processes that this one has started, and theirs. The other side's are idle."""
    times = [p.cpu_times() for p in psutil.Process().children(recursive=True)]
    return sum(t.user + t.system for t in times)


@contextmanager
def own_server(model: Path, threads: int) -> Iterator[Ask]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(model), str(CONTEXT), str(threads)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        with httpx.Client(base_url=address, timeout=None) as http:
            yield lambda prompt, count: ask_server(http, prompt, count)
    finally:
        process.stdin.close()
        process.wait()


def ask_server(http: httpx.Client, prompt: str, count: int) -> tuple[float, float, int]:
    body = {"prompt": prompt, "n_predict": count, "stream": True, "cache_prompt": False}
    body |= {"temperature": 0, "seed": 0, "ignore_eos": True}

    def read(line: str) -> tuple[int, int] | None:
        chunk = json.loads(line.removeprefix("data: "))
        return (chunk["tokens_evaluated"], chunk["tokens_predicted"]) if chunk["stop"] else None

    return timed(http, "/completion", body, read)


@contextmanager
def embedded(model: Path) -> Iterator[Ask]:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        with start_embedded(models, Path(folder) / "log") as address, Ollama(address) as client:
            blob = digest_file(model)
            ensure_base(client, "bench:1", base_blob=blob, blob_path=model)
            with httpx.Client(base_url=address.url, timeout=None) as http:
                yield lambda prompt, count: ask_runtime(http, prompt, count)


def ask_runtime(http: httpx.Client, prompt: str, count: int) -> tuple[float, float, int]:
    body = {"model": "bench:1", "prompt": prompt, "raw": True, "stream": True}
    body |= {"options": OPTIONS | {"num_predict": count}}

    def read(line: str) -> tuple[int, int] | None:
        chunk = json.loads(line)
        return (chunk["prompt_eval_count"], chunk["eval_count"]) if chunk["done"] else None

    return timed(http, "/api/generate", body, read)


def timed(
    http: httpx.Client, path: str, body: object, read: Callable[[str], tuple[int, int] | None]
) -> tuple[float, float, int]:
    """Seconds to the first line, seconds from there to the last, and the tokens that this took:
    the answer's after its first, or the prompt's where only one was asked for."""
    began = time.perf_counter()
    first = 0.0
    with http.stream("POST", path, json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if "{" not in line:  # nothing, or a word that keeps the connection open
                continue
            first = first or time.perf_counter()
            if found := read(line):
                prompt, answer = found
                return first - began, time.perf_counter() - first, max(answer - 1, 0) or prompt
    raise AssertionError("the stream ended without an end")


WORDS = (__doc__ or "").split()  # of prompts: any words will do


if __name__ == "__main__":
    main()
