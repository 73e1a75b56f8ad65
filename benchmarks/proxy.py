"""What the proxy adds: time to the first byte, and tokens in a second, beside LiteLLM's proxy.

    python -m benchmarks.proxy              # some minutes; pip fetches LiteLLM
    python -m benchmarks.proxy --alone      # without LiteLLM

All three, the address itself, ours and LiteLLM's, stand before the same runtime of a few lines
(`tests.flood`), in processes of their own, and are asked the same streamed /v1/chat/completions by
the same client in turns, so that whatever else the machine does falls on all of them. Ours runs as
it does by default: it redacts and logs. LiteLLM comes from PyPI into an environment made here, and
runs as its documentation advises for production: one worker, warnings only, and a key, without
which it does not start; so ours wants its token too.

* Time to the first byte of a body: answers of 9 tokens that come at 100 in a second, so that four
  clients saturate nothing. Added = the percentile through the proxy less the one without.
* Tokens in a second: answers of 201 tokens, as quickly as they come.

It fails if ours adds more than 3 ms in the median, or more than a quarter of what LiteLLM adds.
"""

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles

from tests.flood import Flood, flood
from tests.test_writer import free_port

CLIENTS = (1, 4, 16)
ROUNDS = 3
SHORT, PACE, ASKED = 8, 100.0, 60  # words, in a second, questions in a round
LONG, ASKED_LONG = 200, 32
MOST_MS, MOST_SHARE = 3.0, 0.25
KEY = f"sk-{secrets.token_hex(16)}"  # of this run; both proxies want it
AUTHORIZATION = f"Bearer {KEY}"
Ports = dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--alone", action="store_true", help="without LiteLLM")
    parser.add_argument("--litellm", type=Path, help="an environment that has it already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        peer = None if options.alone else options.litellm or an_environment(place / "litellm")
        if peer:
            print(f"LiteLLM {its_version(peer)}, aiohttp {version('aiohttp')}", flush=True)
        paced = stack.enter_context(stand(place / "paced", SHORT, PACE, peer))
        fast = stack.enter_context(stand(place / "fast", LONG, 0, peer))
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {ROUNDS} rounds\n")
        fine = first_bytes(paced)
        tokens(fast)
    sys.exit(0 if fine else 1)


def first_bytes(ports: Ports) -> bool:
    """Print the table of first bytes; whether ours adds little enough."""
    fine = True
    print("CLIENTS  THROUGH   FIRST BYTE p50, p99    ADDED p50, p99 (ms)")
    for clients in CLIENTS:
        seen = rounds(ports, clients, ASKED + 20 * clients)
        cuts = {
            name: [1000 * c for c in quantiles([s for f in floods for s in f.first], n=100)]
            for name, floods in seen.items()
        }
        added = {}
        for name, cut in cuts.items():
            added[name] = cut[49] - cuts["direct"][49]
            line = f"{clients:>7}  {name:<8} {cut[49]:>9.2f} {cut[98]:>9.2f}"
            if name != "direct":
                line += f" {added[name]:>12.2f} {cut[98] - cuts['direct'][98]:>9.2f}"
            print(line, flush=True)
        fine &= added["ours"] <= MOST_MS
        fine &= added["ours"] <= MOST_SHARE * added.get("litellm", float("inf"))
    return fine


def tokens(ports: Ports) -> None:
    """Print the table of tokens in a second, over all clients."""
    print("\nCLIENTS  THROUGH   TOKENS/S   OF DIRECT")
    for clients in CLIENTS:
        seen = rounds(ports, clients, ASKED_LONG)
        rates = {
            name: sum(len(f.first) for f in floods) * (LONG + 1) / sum(f.seconds for f in floods)
            for name, floods in seen.items()
        }
        for name, rate in rates.items():
            share = rate / rates["direct"]
            print(f"{clients:>7}  {name:<8} {rate:>9.0f} {share:>10.0%}", flush=True)


def rounds(ports: Ports, clients: int, asked: int) -> dict[str, list[Flood]]:
    """All addresses in turns, after one round that is not counted."""
    seen: dict[str, list[Flood]] = {name: [] for name in ports}
    questions = [f"Where is parcel number {n}?" for n in range(asked)]
    for turn in range(ROUNDS + 1):
        for name, port in ports.items():
            found = asyncio.run(
                flood(
                    port,
                    questions,
                    clients,
                    path="/v1/chat/completions",
                    headers=f"Authorization: {AUTHORIZATION}\r\n",
                    extra={"max_tokens": 500},
                )
            )
            assert not found.broken and len(found.first) == asked, f"{name} broke off"
            if turn:
                seen[name].append(found)
    return seen


@contextmanager
def stand(place: Path, words: int, pace: float, peer: Path | None) -> Iterator[Ports]:
    """A runtime that answers with so many words, and the proxies before it."""
    place.mkdir()
    ports = {"direct": free_port(), "ours": free_port()}
    behind = f"http://127.0.0.1:{ports['direct']}"
    python, home = sys.executable, {"OLLAMA_FT_HOME": str(place / "home"), "OLLAMA_FT_TOKEN": KEY}
    ours = ("--host", behind, "serve", "--port", str(ports["ours"]))
    with ExitStack() as stack:
        runtime = (python, "-m", "tests.flood", str(ports["direct"]), str(words), str(pace))
        stack.enter_context(a_process(*runtime, ready=f"{behind}/"))
        front = f"http://127.0.0.1:{ports['ours']}/ollama-ft/status"
        stack.enter_context(a_process(python, "-m", "ollama_ft", *ours, ready=front, env=home))
        if peer:
            ports["litellm"] = free_port()
            stack.enter_context(litellm(peer, place / "litellm.yaml", behind, ports["litellm"]))
        yield ports


@contextmanager
def litellm(peer: Path, config: Path, behind: str, port: int) -> Iterator[None]:
    """LiteLLM's proxy before the runtime; its environment's other programs are found first."""
    params = {"model": "openai/m", "api_base": f"{behind}/v1", "api_key": "none"}
    body = {"model_list": [{"model_name": "m", "litellm_params": params}]}
    config.write_text(json.dumps(body))  # JSON is YAML
    quiet = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "WARNING"}
    quiet |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    quiet |= {"LITELLM_MASTER_KEY": KEY}
    command = (str(peer / "bin" / "litellm"), "--config", str(config), "--port", str(port))
    more = ("--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False")
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    with a_process(*command, *more, ready=ready, env=quiet):
        yield


@contextmanager
def a_process(*command: str, ready: str, env: dict[str, str] | None = None) -> Iterator[None]:
    """The program, once it answers at `ready`; ended afterwards."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdout=said, stderr=said
        )
        try:
            end = time.monotonic() + 180
            while not answers(ready):
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    sys.exit(f"{command[0]} does not start:\n{said.read().decode()[-2000:]}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str) -> bool:
    """Whether a GET is answered well; always an address on loopback."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        asked = urllib.request.Request(url, headers={"Authorization": AUTHORIZATION})
        with opener.open(asked, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def an_environment(place: Path) -> Path:
    """A virtual environment with LiteLLM's proxy in it."""
    print("installing LiteLLM into an environment of its own …", file=sys.stderr)
    subprocess.run((sys.executable, "-m", "venv", str(place)), check=True)
    pip = (str(place / "bin" / "pip"), "install", "--quiet", "litellm[proxy]")
    subprocess.run(pip, check=True)
    return place


def its_version(peer: Path) -> str:
    """The version of LiteLLM in that environment."""
    code = "from importlib.metadata import version; print(version('litellm'))"
    found = subprocess.run(
        (str(peer / "bin" / "python"), "-c", code), check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


if __name__ == "__main__":
    main()
