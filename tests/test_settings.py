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


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("host:\n", "host", ""),
        ("require_signature: true\n", "require_signature", "yes"),
        ("require_signature: YES\n", "require_signature", "yes"),
        ("require_signature: 0\n", "require_signature", "no"),
        ('require_signature: "On "\n', "require_signature", "yes"),
        ("progress:\n", "progress", "auto"),
        ("recipe: 1\n", "recipe", "1"),
        ("gate: 严格\n", "gate", "严格"),
    ],
)
def test_a_setting_means_what_its_yaml_means(tmp_path, text, key, value):
    (tmp_path / "ollama-ft.yaml").write_text(text, encoding="utf-8")
    assert load_settings(tmp_path, {}, {})[key].value == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("require_signature: yess\n", r"require_signature = 'yess' is none of yes, no"),
        ("require_signature: always\n", r"require_signature = 'always' is none of yes, no"),
        ("progress: loud\n", r"ollama-ft.yaml: progress = 'loud' is none of auto, plain"),
        ("gate: [a, b]\n", r"line 1: gate takes one word"),
        ("- a\n", r"must hold `key: value`"),
        ("host: [\n", r"is not YAML"),
    ],
)
def test_a_word_that_a_setting_does_not_take_is_refused(tmp_path, text, message):
    (tmp_path / "ollama-ft.yaml").write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        load_settings(tmp_path, {}, {})
    assert caught.value.mend
    assert "config show" not in caught.value.mend  # which fails in the same way


def test_a_wrong_word_in_the_environment_names_the_variable(tmp_path):
    with pytest.raises(BadInput, match="OLLAMA_FT_PROGRESS: progress = 'loud'"):
        load_settings(tmp_path, {"OLLAMA_FT_PROGRESS": "loud"}, {})
