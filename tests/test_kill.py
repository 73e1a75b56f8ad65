"""kill -9 at any moment of `new`: the catalog opens, nothing half-made is listed, and the same
command finishes. OLLAMA_FT_KILLS says how often; `OLLAMA_FT_KILLS=30 pytest tests/test_kill.py`."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ollama_ft.core.catalog import open_catalog
from ollama_ft.core.files import digest_file
from ollama_ft.core.home import Home, shipped

KILLS = int(os.environ.get("OLLAMA_FT_KILLS", "6"))
LONGEST = 60.0  # seconds into the command at which it is killed at the latest


def start(home: Path, base: Path) -> subprocess.Popen:
    words = ["new", "bot", "--from", base, "--data", shipped() / "data" / "faq-more.jsonl"]
    settings = ["--set", "epochs=5", "--set", "rank=8"]
    command = [sys.executable, "-m", "ollama_ft", "--home", home, "--host", "embedded"]
    return subprocess.Popen(
        [*map(str, command), *map(str, words), *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OLLAMA_FT_PROGRESS": "plain", "OLLAMA_FT_GATE": "quick"},
    )


def check(home: Home) -> list[int]:
    """What has to hold after a kill; returns the numbers of the versions that are listed."""
    if not home.catalog.exists():
        return []
    db = open_catalog(home.catalog)
    assert next(db.query("pragma integrity_check"))["integrity_check"] == "ok"
    assert list(db.query("pragma foreign_key_check")) == []
    listed = list(db.query("select number, status from versions_view"))
    assert all(row["number"] == 0 or row["status"] not in ("unproved", "failed") for row in listed)
    for row in db.query("select digest from adapters"):
        name = row["digest"].removeprefix("sha256:")
        assert digest_file(home.data("adapters") / f"{name}.gguf") == row["digest"]
    for blob in (home.models / "blobs").glob("sha256-*"):
        if blob.name.count("-") == 1 and len(blob.name) == len("sha256-") + 64:
            assert digest_file(blob) == blob.name.replace("-", ":")
    for row in db.query("select digest from live join versions v on v.id = live.version"):
        assert row["digest"]
    db.close()
    return [row["number"] for row in listed]


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_and_lists_nothing_half_made(tmp_path, smollm2_gguf):
    chance = random.Random(time.time_ns())
    home = Home(path=tmp_path / "home", origin="--home")
    killed = rounds = 0
    moments = []
    while killed < KILLS:
        process = start(home.path, smollm2_gguf)
        moment = chance.uniform(0.2, LONGEST)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            moments.append(round(moment, 1))
        else:
            assert process.returncode == 0, process.stderr.read().decode()
            assert sorted(check(home)) == [0, 1]
            rounds += 1
            home = Home(path=tmp_path / f"home{rounds}", origin="--home")
        process.stderr.close()
        check(home)
    last = start(home.path, smollm2_gguf)
    _, errors = last.communicate(timeout=900)
    assert last.returncode == 0, errors.decode()
    assert sorted(check(home)) == [0, 1]
    sys.stdout.write(f"{killed} kills at {moments} seconds; {rounds + 1} homes finished\n")
