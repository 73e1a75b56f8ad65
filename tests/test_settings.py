import pytest

from ollama_ft.core.errors import BadInput
from ollama_ft.core.settings import DEFAULTS, MEANINGS, load_settings


def test_flag_over_environment_over_file_over_default_and_each_says_who_won(tmp_path):
    (tmp_path / "ollama-ft.yaml").write_text("host: from-file\nrecipe: mine\nprogress: plain\n")
    env = {"OLLAMA_FT_HOST": "from-env", "OLLAMA_FT_RECIPE": "env"}
    found = load_settings(tmp_path, env, {"host": "from-flag", "recipe": None})
    assert (found["host"].value, found["host"].origin) == ("from-flag", "flag")
    assert (found["recipe"].value, found["recipe"].origin) == ("env", "OLLAMA_FT_RECIPE")
    assert found["progress"].origin.endswith("ollama-ft.yaml")
    assert load_settings(tmp_path / "elsewhere", {}, {})["host"].origin == "default"


def test_an_unknown_setting_names_the_line_and_the_nearest(tmp_path):
    (tmp_path / "ollama-ft.yaml").write_text("# mine\nhots: x\n")
    with pytest.raises(BadInput, match=r"line 2: 'hots' is no setting. Did you mean 'host'"):
        load_settings(tmp_path, {}, {})


def test_every_setting_has_a_meaning():
    assert set(DEFAULTS) == set(MEANINGS)
