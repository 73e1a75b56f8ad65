"""The embedded runtime on a real model: as a process, over HTTP, as users run it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.test_conformance import ROOT, SEA, embedded
from tests.transcripts import write_adapter

pytestmark = pytest.mark.slow

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
GREEDY = {"temperature": 0, "seed": 1, "num_predict": 12}


class Runtime:
    """A client with the few requests that these tests need."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.http = httpx.Client(base_url=address, timeout=120, trust_env=False)

    def upload(self, path: Path) -> str:
        import hashlib

        digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        self.http.post(f"/api/blobs/{digest}", content=path.read_bytes()).raise_for_status()
        return digest

    def create(self, model: str, **body: object) -> None:
        response = self.http.post("/api/create", json={"model": model, "stream": False, **body})
        assert response.status_code == 200, response.text

    def adapted(self, model: str, seed: int, **kinds: object) -> None:
        """A version of smol with a random adapter."""
        path = write_adapter(self.folder / f"{model.replace(':', '-')}.gguf", seed=seed, **kinds)  # type: ignore[arg-type]
        self.create(model, **{"from": "smol", "adapters": {"a.gguf": self.upload(path)}})

    def chat(
        self, model: str, text: str = "Write one sentence about the sea.", **body: object
    ) -> dict[str, object]:
        asked = {"model": model, "messages": [{"role": "user", "content": text}], "stream": False}
        response = self.http.post("/api/chat", json=asked | {"options": GREEDY} | body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def said(self, model: str, text: str = "Write one sentence about the sea.") -> str:
        message = self.chat(model, text)["message"]
        assert isinstance(message, dict)
        return str(message["content"])

    def loaded(self) -> list[str]:
        return [row["name"] for row in self.http.get("/api/ps").json()["models"]]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> Iterator[Runtime]:
    """One runtime with a base and a version of it."""
    with embedded(tmp_path_factory.mktemp("models")) as address:
        made = Runtime(address, tmp_path_factory.mktemp("adapters"))
        made.create("smol", files={"smol.gguf": made.upload(smollm2_gguf)})
        made.adapted("smol-a:v1", 1, scale=0.3)
        yield made
        made.http.close()


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def children_of(pid: int) -> list[int]:
    return [number for number in running() if parent_of(number) == pid]


def serving(models: Path) -> int:
    """The process that serves this store."""
    return next(
        n for n in running() if str(models).encode() in Path(f"/proc/{n}/cmdline").read_bytes()
    )


def running() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# One process, many models


def test_base_and_versions_answer_side_by_side_without_a_reload(runtime: Runtime) -> None:
    first, loaded = runtime.said("smol"), runtime.chat("smol-a:v1")
    message = loaded["message"]
    assert isinstance(message, dict)
    assert message["content"] != first
    assert int(str(loaded["load_duration"])) < 500e6  # nanoseconds; a load takes longer
    assert runtime.said("smol") == first
    assert runtime.loaded() == ["smol:latest"]


def test_answers_at_the_same_time_are_those_that_come_one_by_one(runtime: Runtime) -> None:
    models = ["smol", "smol-a:v1"] * 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(runtime.said, models))
    firsts = [text.split()[0] for text in together]
    assert firsts == [runtime.said(model).split()[0] for model in models[:2]] * 4


def test_a_new_version_answers_while_an_old_request_runs_on(runtime: Runtime) -> None:
    pieces: list[str] = []
    options = {"temperature": 0, "num_predict": 120}

    def stream() -> None:
        body = {"model": "smol", "messages": SEA, "options": options}
        with runtime.http.stream("POST", "/api/chat", json=body) as response:
            pieces.extend(response.iter_lines())

    thread = threading.Thread(target=stream)
    thread.start()
    assert eventually(lambda: runtime.loaded() != [])
    runtime.adapted("smol-new:v1", 5, scale=0.3)
    new = runtime.said("smol-new:v1")
    thread.join()
    assert json.loads(pieces[-1])["done"] is True
    assert new != runtime.said("smol")


def test_an_adapter_that_does_not_fit_is_refused_with_the_reason_and_harms_no_other(
    runtime: Runtime,
) -> None:
    runtime.adapted("smol-wide", 1, width=1024)
    body = {"model": "smol-wide", "messages": SEA, "stream": False}
    response = runtime.http.post("/api/chat", json=body)
    assert response.status_code == 500
    assert response.json()["error"].startswith("llama-server process has terminated")
    assert "blk.0.attn_q.weight is 576×576 in the base" in response.json()["error"]
    assert runtime.said("smol-a:v1")


def test_greedy_answers_do_not_depend_on_what_was_asked_before(runtime: Runtime) -> None:
    def asked() -> object:
        body = {"logprobs": True, "top_logprobs": 5, "options": GREEDY}
        return runtime.chat("smol", **body)["logprobs"]

    alone = asked()
    runtime.said("smol", "Write one sentence about the sky.")
    runtime.said("smol-a:v1")
    assert asked() == alone == asked()


def test_the_prompts_length_is_counted_whole_even_where_the_cache_helps(runtime: Runtime) -> None:
    warm = {"temperature": 0.7, "num_predict": 2}
    counts = {runtime.chat("smol", options=warm)["prompt_eval_count"] for _ in range(2)}
    assert counts == {16}


def test_rendering_alone_loads_nothing(runtime: Runtime) -> None:
    runtime.http.post("/api/generate", json={"model": "smol", "keep_alive": 0})
    assert eventually(lambda: runtime.loaded() == [])
    rendered = runtime.chat("smol", _debug_render_only=True)["_debug_info"]
    assert rendered == {
        "rendered_template": "<|im_start|>user\nWrite one sentence about the sea.<|im_end|>\n"
        "<|im_start|>assistant\n"
    }
    assert runtime.loaded() == []


def test_a_conversation_too_long_loses_its_oldest_turns(runtime: Runtime) -> None:
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": f"turn {n} " * 20} for n in range(21)
    ]
    messages = [{"role": "system", "content": "Be brief."}, *turns]
    body = {
        "model": "smol",
        "messages": messages,
        "_debug_render_only": True,
        "options": {"num_ctx": 512},
    }
    prompt = runtime.http.post("/api/chat", json=body).json()["_debug_info"]["rendered_template"]
    assert "Be brief." in prompt
    assert "turn 20 " in prompt
    assert "turn 0 " not in prompt
    tokens = runtime.http.post("/api/tokenize", json={"model": "smol", "content": prompt}).json()[
        "tokens"
    ]
    assert 300 < len(tokens) <= 512


def test_unloading_gives_the_process_back(runtime: Runtime) -> None:
    runtime.chat("smol", keep_alive="200ms")
    assert runtime.loaded() == ["smol:latest"]
    assert eventually(lambda: runtime.loaded() == [], 5)


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_hangs_up_ends_the_generation(
    stream: bool, smollm2_gguf: Path, tmp_path: Path
) -> None:
    with embedded(tmp_path / "models", slots=1) as address:
        runtime = Runtime(address, tmp_path)
        runtime.create("smol", files={"smol.gguf": runtime.upload(smollm2_gguf)})
        runtime.said("smol")
        # Only the caller can end it: no turn's end is allowed, no token follows itself.
        endless = {"type": "string", "pattern": "^([a-z][0-9]){2000}$"}
        options = {"num_predict": 4000, "temperature": 1.5}
        body = {"model": "smol", "messages": SEA, "format": endless, "options": options}
        hang_up(f"{address}/api/chat", body | {"stream": stream})
        started = time.monotonic()
        assert runtime.said("smol")  # the only slot is free again
        assert time.monotonic() - started < 10
        runtime.http.close()


def hang_up(url: str, body: dict[str, object]) -> None:
    """Ask, and leave before the answer is complete."""
    with httpx.Client(timeout=httpx.Timeout(60, read=1.0), trust_env=False) as client:
        if not body["stream"]:
            with pytest.raises(httpx.ReadTimeout):
                client.post(url, json=body)
            return
        with client.stream("POST", url, json=body) as response:
            assert json.loads(next(response.iter_lines()))["done"] is False


# Names and blobs


def test_a_copied_name_is_never_missing_or_half_written(runtime: Runtime) -> None:
    runtime.adapted("swap-b:v1", 2, scale=0.3)
    targets, stop, bad = ["smol-a:v1", "swap-b:v1"], threading.Event(), []
    runtime.http.post("/api/copy", json={"source": targets[0], "destination": "swap"})

    def look() -> None:
        with httpx.Client(base_url=runtime.address, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post("/api/show", json={"model": "swap"})
                if answer.status_code != 200 or "ADAPTER" not in answer.json()["modelfile"]:
                    bad.append(answer.text)

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(100):
        body = {"source": targets[n % 2], "destination": "swap"}
        assert runtime.http.post("/api/copy", json=body).status_code == 200
    stop.set()
    thread.join()
    assert not bad


def test_blobs_go_with_the_last_name_unless_they_are_to_be_kept(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    for keep, more in ((False, ()), (True, ("--keep-blobs",))):
        with embedded(tmp_path / f"models-{keep}", *more) as address:
            runtime = Runtime(address, tmp_path)
            digest = runtime.upload(smollm2_gguf)
            runtime.create("smol", files={"smol.gguf": digest})
            runtime.http.request("DELETE", "/api/delete", json={"model": "smol"})
            assert (runtime.http.head(f"/api/blobs/{digest}").status_code == 200) is keep
            runtime.http.close()


def test_a_route_can_be_refused_as_some_versions_of_ollama_do(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "a.gguf", seed=1)
    with embedded(tmp_path / "models", "--refuse", "adapters,files") as address:
        runtime = Runtime(address, tmp_path)
        base, lora = runtime.upload(smollm2_gguf), runtime.upload(adapter)
        runtime.create("smol", files={"smol.gguf": base})
        for body in (
            {"from": "smol", "adapters": {"a.gguf": lora}},
            {"files": {"m.gguf": base, "a.gguf": lora}},
        ):
            response = runtime.http.post("/api/create", json={"model": "x", **body})
            assert response.status_code == 400
            assert "adapters" in response.json()["error"]
        runtime.http.close()


# Prompts


def test_a_bos_in_the_prompt_is_not_doubled(gemma3_gguf: Path, tmp_path: Path) -> None:
    with embedded(tmp_path / "models") as address:
        runtime = Runtime(address, tmp_path)
        runtime.create("gemma", files={"gemma.gguf": runtime.upload(gemma3_gguf)})

        def tokens(content: str) -> list[int]:
            body = {"model": "gemma", "content": content}
            return list(runtime.http.post("/api/tokenize", json=body).json()["tokens"])

        assert tokens("<bos>Hello") == tokens("Hello")
        assert tokens("Hello")[0] == 2
        runtime.http.close()


def test_two_bases_are_loaded_at_once_and_the_oldest_gives_way(
    smollm2_gguf: Path, gemma3_gguf: Path, tmp_path: Path
) -> None:
    with embedded(tmp_path / "models", bases=1) as address:
        runtime = Runtime(address, tmp_path)
        runtime.create("smol", files={"smol.gguf": runtime.upload(smollm2_gguf)})
        runtime.create("gemma", files={"gemma.gguf": runtime.upload(gemma3_gguf)})
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(runtime.said, ["smol", "gemma"] * 2))
        assert all(answers)
        assert len(runtime.loaded()) == 1
        runtime.http.close()


def test_the_ggufs_own_jinja_is_used_where_the_go_template_is_off(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    with embedded(tmp_path / "models", go_template="0") as address:
        runtime = Runtime(address, tmp_path)
        runtime.create("smol", files={"smol.gguf": runtime.upload(smollm2_gguf)})
        assert (
            "{% for message"
            in runtime.http.post("/api/show", json={"model": "smol"}).json()["template"]
        )
        prompt = runtime.chat("smol", _debug_render_only=True)["_debug_info"]
        assert isinstance(prompt, dict)
        assert prompt["rendered_template"].startswith(
            "<|im_start|>system\nYou are a helpful AI assistant"
        )
        runtime.http.close()


# The process


def test_it_answers_within_a_second_or_two_and_loads_no_engine_for_it(tmp_path: Path) -> None:
    started = time.monotonic()
    with embedded(tmp_path) as address:
        answer = httpx.get(f"{address}/api/version", trust_env=False).json()
        assert time.monotonic() - started < 5  # a busy machine; alone it takes 0.3 s
        assert answer == {"version": "0.33.0-ollama-ft", "runtime": "ollama-ft"}
    code = "import sys, ollama_ft.runtime.embedded.app; print({'xllamacpp', 'torch'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "set()"


@needs_proc
def test_nothing_outlives_a_parent_that_is_killed(smollm2_gguf: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "ollama_ft.runtime.embedded",
        "--parent-pipe",
        "--models",
    ]
    script = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({[*command, str(tmp_path / 'models')]!r}, stdin=subprocess.PIPE)\n"
        "time.sleep(600)\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env)
    assert parent.stdout
    said = json.loads(parent.stdout.readline())
    runtime = Runtime(f"http://127.0.0.1:{said['port']}", tmp_path)
    runtime.create("smol", files={"smol.gguf": runtime.upload(smollm2_gguf)})
    runtime.said("smol")
    engines = children_of(said["pid"])
    assert len(engines) == 1
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    runtime.http.close()
    assert eventually(lambda: not is_running(said["pid"]))
    assert eventually(lambda: not is_running(engines[0]))


@needs_proc
def test_a_crash_of_the_engine_is_an_error_of_one_request(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    with embedded(tmp_path / "models") as address:
        runtime = Runtime(address, tmp_path)
        runtime.create("smol", files={"smol.gguf": runtime.upload(smollm2_gguf)})
        before = runtime.said("smol")
        [engine] = children_of(serving(tmp_path / "models"))
        os.kill(engine, signal.SIGKILL)
        assert eventually(lambda: runtime.loaded() == [])
        assert runtime.said("smol") == before
        runtime.http.close()


# The official clients


def test_ollamas_own_client_drives_it(runtime: Runtime) -> None:
    import ollama

    client = ollama.Client(host=runtime.address, trust_env=False)
    assert "smol-a:v1" in [model.model for model in client.list().models]
    assert client.show("smol-a:v1").details.family == "llama"  # type: ignore[union-attr]
    whole = client.chat("smol", messages=SEA, options=GREEDY)
    assert whole.message.content == runtime.said("smol")
    pieces = list(client.chat("smol", messages=SEA, options=GREEDY, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert pieces[-1].done
    made = list(client.create("smol-b", from_="smol", system="Answer in one word.", stream=True))
    assert made[-1].status == "success"
    assert client.generate("smol-b", prompt="Hi", options=GREEDY).done_reason
    client.copy("smol-b", "smol-c")
    client.delete("smol-b")
    client.delete("smol-c")
    with pytest.raises(ollama.ResponseError, match="model 'none' not found"):
        client.chat("none", messages=SEA)


def test_openais_own_client_drives_it(runtime: Runtime) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{runtime.address}/v1", api_key="none", max_retries=0)
    assert "smol:latest" in [model.id for model in client.models.list()]
    asked = {"model": "smol", "messages": SEA, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    assert whole.choices[0].message.content == runtime.said("smol")
    assert whole.usage.prompt_tokens == 16
    events = list(client.chat.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    assert (
        "".join(e.choices[0].delta.content or "" for e in events)
        == whole.choices[0].message.content
    )
    assert events[-1].choices[0].finish_reason in ("stop", "length")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**asked | {"model": "none"})  # type: ignore[call-overload]
    client.close()
