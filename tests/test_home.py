import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ollama_ft.core.errors import BadInput, Conflict
from ollama_ft.core.home import Home, find_home, shipped


def test_the_flag_wins_over_the_environment_over_the_project_over_the_user(tmp_path):
    project = tmp_path / "project" / "deep"
    project.mkdir(parents=True)
    (tmp_path / "project" / "ollama-ft.yaml").write_text("")
    env = {"OLLAMA_FT_HOME": str(tmp_path / "env")}
    assert find_home(tmp_path / "flag", env, project).origin == "--home"
    assert find_home(None, env, project).path == tmp_path / "env"
    assert find_home(None, {}, project) == Home(path=tmp_path / "project", origin="project")
    assert find_home(None, {}, tmp_path).origin == "user"


def _hold(home, locked, done):
    with home.lock("bot"):
        locked.set()
        done.wait(20)


def test_a_family_that_is_worked_on_names_the_owner(home):
    context = multiprocessing.get_context("spawn")
    locked, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(home, locked, done))
    other.start()
    assert locked.wait(20)
    try:
        with pytest.raises(Conflict, match=f"by process {other.pid}"), home.lock("bot"):
            pass
        with home.lock("another"):  # only this family is locked
            pass
    finally:
        done.set()
        other.join()


def test_a_lock_dies_with_its_owner(home):
    context = multiprocessing.get_context("spawn")
    locked, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(home, locked, done))
    other.start()
    assert locked.wait(20)
    other.kill()
    other.join()
    with home.lock("bot"):
        owner = (home.path / "registry" / "locks" / "bot.pid").read_text()
    assert int(owner) == os.getpid()


def test_the_homes_own_texts_come_before_the_shipped_ones(home):
    assert home.texts("recipes") == [
        home.path / "registry" / "recipes",
        shipped() / "registry" / "recipes",
    ]
    assert (shipped() / "registry" / "recipes" / "default.yaml").is_file()


def test_the_tilde_is_the_users_folder_wherever_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_home(Path("~/x"), {}, tmp_path).path == tmp_path / "x"
    assert find_home(None, {"OLLAMA_FT_HOME": "~/x"}, tmp_path).path == tmp_path / "x"


def test_the_tilde_of_nobody_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such user"):
        find_home(None, {"OLLAMA_FT_HOME": "~no-such-user-here/x"}, tmp_path)


def test_a_lock_whose_owner_is_unknown_names_no_process_to_kill(home):
    with home.lock("bot"):
        (home.path / "registry" / "locks" / "bot.pid").write_text("")
        with ThreadPoolExecutor(1) as pool, pytest.raises(Conflict) as caught:
            pool.submit(home.lock("bot").__enter__).result()
    assert "another process" in str(caught.value)
    assert "kill" not in caught.value.mend


def test_who_holds_a_family_may_take_it_again_and_keeps_it(home):
    owner = home.path / "registry" / "locks" / "bot.pid"
    with home.lock("bot"):
        with home.lock("bot"):
            pass
        assert int(owner.read_text()) == os.getpid()
    assert not owner.exists()
