"""Which runtime is used: the named one, the default one, ours; and that ours always ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from ollama_ft.core.errors import RuntimeUnavailable
from ollama_ft.runtime import find, launch
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.find import connect, leave_door, open_door
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.probe import probe


@contextmanager
def server_saying(body: bytes, status: int = 200):
    """Something that answers every request in one way; yields HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def models(tmp_path):
    return tmp_path / "home" / "models"


@pytest.fixture
def said():
    return []


@pytest.fixture
def use(models, tmp_path, said):
    """Connect with these settings; what is noticed goes to `said`."""

    def with_settings(host=None, **env):
        log = tmp_path / "home" / "embedded.log"
        return connect(models, host=host, env=env, notice=said.append, log=log)

    return with_settings


@pytest.fixture
def nobody_at_the_default(monkeypatch):
    real = parse_host

    def moved(text):
        return real("127.0.0.1:9") if not text else real(text)

    monkeypatch.setattr(find, "parse_host", moved)


OLLAMA = json.dumps({"version": "0.33.0"}).encode()


def test_the_flag_wins_over_the_environment(use):
    with server_saying(OLLAMA) as address, use(host=address, OLLAMA_HOST="127.0.0.1:9") as client:
        assert client.version() == "0.33.0"
        assert client.address.url == f"http://{address}"


def test_the_environment_names_a_runtime_in_ollamas_own_form(use):
    with server_saying(OLLAMA) as address, use(OLLAMA_HOST=f' "{address}" ') as client:
        assert client.version() == "0.33.0"


@pytest.mark.parametrize("settings", [{"host": "127.0.0.1:9"}, {"OLLAMA_HOST": "127.0.0.1:9"}])
def test_a_named_runtime_that_does_not_answer_is_never_replaced_in_silence(use, said, settings):
    with pytest.raises(RuntimeUnavailable, match=r"No runtime answers at http://127\.0\.0\.1:9"):
        use(**settings).__enter__()
    assert said == []


def test_a_default_address_that_answers_is_used(use, monkeypatch, said):
    with server_saying(OLLAMA) as address:
        monkeypatch.setattr(find, "parse_host", lambda text: parse_host(text or address))
        with use() as client:
            assert client.version() == "0.33.0"
    assert said == []


def test_another_program_at_the_default_address_is_no_runtime():
    with server_saying(b"<html>hello</html>") as address:
        assert not find.answers(parse_host(address))
    with server_saying(b"no", status=404) as address:
        assert not find.answers(parse_host(address))


def test_a_strange_port_is_told(use, said, monkeypatch):
    monkeypatch.setattr(Ollama, "version", lambda self: "0.33.0")
    with use(host="127.0.0.1:eighty") as client:
        assert client.address.port == 11434
    assert said == ["'eighty' is not a port; 11434 is used."]


@pytest.mark.parametrize("settings", [{"host": "embedded"}, {"OLLAMA_HOST": "embedded"}])
def test_our_own_runtime_can_be_asked_for_by_name(use, said, settings):
    with use(**settings) as client:
        found = probe(client)
        assert (found.kind, found.debug_render, found.adapters_at_create) == (
            "embedded",
            True,
            True,
        )
    assert said == []
    with pytest.raises(RuntimeUnavailable):
        Ollama(client.address).version()


def test_our_own_runtime_starts_when_nobody_answers_and_says_so_once(
    use, said, models, nobody_at_the_default
):
    with use() as client:
        assert client.tags() == []
    assert len(said) == 1
    assert "the embedded runtime is used" in said[0]
    assert (models.parent / "embedded.log").exists()


def test_without_the_extra_the_pip_command_is_told(use, monkeypatch):
    monkeypatch.setattr(launch, "_NEEDED", ("no_such_engine",))
    with pytest.raises(RuntimeUnavailable, match="lacks no_such_engine") as caught:
        use(host="embedded").__enter__()
    assert "pip install 'ollama-ft[embedded]'" in caught.value.mend


def test_a_runtime_that_does_not_start_is_told_with_its_last_words(use, models):
    models.parent.mkdir(parents=True)
    models.write_text("a file where the store should be")
    with pytest.raises((RuntimeUnavailable, FileExistsError)):
        use(host="embedded").__enter__()


def test_our_own_runtime_ends_when_its_parent_is_killed(models, tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom ollama_ft.runtime.launch import start_embedded\n"
        "with start_embedded(Path(sys.argv[1]), Path(sys.argv[2])) as address:\n"
        "    print(address.port, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(models), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        port = int(parent.stdout.readline())
        children = psutil.Process(parent.pid).children(recursive=True)
        assert children
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert not find.answers(parse_host(f"127.0.0.1:{port}"))


def test_an_open_door_is_used_and_a_second_runtime_is_not_started(use, said, models, tmp_path):
    with launch.start_embedded(models, tmp_path / "log") as address, leave_door(models, address):
        assert open_door(models).address == address
        with use(host="embedded") as client:
            assert client.address == address
        assert Ollama(address).version()  # it is not ours to end
    assert open_door(models) is None
    assert not (models.parent / "runtime.json").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"address": "http://127.0.0.1:9"}', b'{"address": "http://10.0.0.1:80"}'],
)
def test_a_door_that_leads_nowhere_is_passed_over(models, content):
    models.parent.mkdir(parents=True)
    (models.parent / "runtime.json").write_bytes(content)
    assert open_door(models) is None


def test_a_door_to_another_runtime_is_passed_over(models):
    models.parent.mkdir(parents=True)
    with server_saying(OLLAMA) as address, leave_door(models, parse_host(address)):
        assert open_door(models) is None


def test_the_default_address_is_asked_in_a_moment_when_nobody_is_there():
    begin = time.monotonic()
    assert not find.answers(parse_host("127.0.0.1:9"))
    assert time.monotonic() - begin < 0.5
