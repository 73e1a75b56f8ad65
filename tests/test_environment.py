"""What the libraries below torch are told, where it still matters and nobody has said otherwise."""

import subprocess
import sys
import time

import pytest

from ollama_ft.kinds.trainers import environment

LOOK = """
import os, sys
from ollama_ft.kinds.trainers import environment
{before}
environment.prepare(lambda: {busy})
print(os.environ.get("{name}"))
"""
CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def spun(busy: float, before: str = "") -> str:
    return told("GOMP_SPINCOUNT", busy, before)


def told(name: str, busy: float, before: str) -> str:
    code = LOOK.format(name=name, busy=busy, before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("busy", "count"), [(0.0, "3000"), (0.2, "3000"), (0.3, "0"), (2.0, "0")])
def test_threads_spin_on_a_quiet_machine_and_sleep_on_a_busy_one(busy, count):
    assert spun(busy) == count


def test_what_the_user_said_is_kept():
    assert spun(2.0, "os.environ['GOMP_SPINCOUNT'] = '77'") == "77"


def test_a_policy_of_the_users_is_kept():
    assert spun(0.0, "os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'") == "None"


def test_nothing_is_set_once_torch_is_loaded():
    assert spun(2.0, "sys.modules['torch'] = sys") == "None"


def test_a_training_decides_before_it_loads_torch():
    """`loop.make` as it stands, stopped at the first module that brings torch."""
    code = """
import os, sys
from ollama_ft.kinds.trainers import environment
from ollama_ft import loop
assert "torch" not in sys.modules
environment._busy = lambda: 0.0
class Door:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Door())
loop.make(None, None, None, None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={})
    assert done.stdout.strip() == "3000", done.stderr


@pytest.mark.parametrize(("said", "kept"), [({}, "32"), ({CACHE: "7"}, "7")])
def test_onednn_keeps_the_code_of_few_shapes_unless_somebody_says_otherwise(said, kept):
    assert told(CACHE, 0.0, f"os.environ.update({said!r})") == kept


def test_only_what_others_keep_busy_counts(monkeypatch):
    spent = iter([5.0, 5.0 + environment.LOOK])
    monkeypatch.setattr(environment, "_spent", lambda: next(spent))
    monkeypatch.setattr("psutil.cpu_percent", lambda **_: [100.0, 50.0])
    assert environment._busy() == pytest.approx(0.5)


def test_what_a_child_works_is_our_own():
    before = environment._spent()
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        deadline = time.monotonic() + 30
        while environment._spent() < before + 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert environment._spent() >= before + 0.3
    finally:
        child.kill()
        child.wait()
