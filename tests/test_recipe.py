import pytest

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.home import shipped
from ollama_ft.core.recipe import Recipe, load_recipe

KEYS = [
    *("base", "adapter", "rank", "alpha", "dropout", "target_modules", "learning_rate"),
    *("batch_size", "epochs", "max_length", "warmup_ratio", "weight_decay", "patience"),
    *("retain", "distill", "recombine", "seed", "precision", "start"),
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def written(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_recipe_has_these_keys_each_with_a_meaning():
    assert list(Recipe.model_fields) == KEYS
    assert all(field.description for field in Recipe.model_fields.values())


@pytest.mark.parametrize(
    "path", sorted((shipped() / "registry/recipes").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_recipe_is_one(path):
    assert load_recipe(path.stem, [path.parent], {}).adapter == "lora"


def test_a_number_in_short_form_is_a_number(folder):
    assert load_recipe(written(folder, "learning_rate: 1e-4\n"), [], {}).learning_rate == 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank: 8\nlearning_rat: 1e-3\n", r"line 2: 'learning_rat' is no key.*'learning_rate'"),
        ("rank: many\n", r"line 1: rank = 'many'"),
        ("\n\nepochs: -1\n", r"line 3: epochs = -1: input should be greater than or equal to 0"),
        ("alpha: .inf\n", r"line 1: alpha = inf: input should be a finite number"),
        ("precision: int3\n", r"line 1: precision = 'int3'"),
        ("- a\n- b\n", "must hold `key: value`"),
        ("rank: [1\n", "is not YAML"),
    ],
)
def test_a_wrong_recipe_names_the_line_and_the_nearest_key(folder, text, message):
    with pytest.raises(BadInput, match=message):
        load_recipe(written(folder, text), [], {})


def test_set_wins_over_the_file_and_its_errors_say_set(folder):
    path = written(folder, "rank: 8\nepochs: 2\n")
    assert load_recipe(path, [], {"rank": "32"}).rank == 32
    assert load_recipe(path, [], {"target_modules": "[q_proj, v_proj]"}).target_modules == (
        "q_proj",
        "v_proj",
    )
    with pytest.raises(BadInput, match=r"--set rnk: 'rnk' is no key.*'rank'"):
        load_recipe(path, [], {"rnk": "32"})


def test_the_first_folder_that_has_a_recipe_wins(tmp_path):
    for name, rank in (("home", 4), ("shipped", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "default.yaml").write_text(f"rank: {rank}\n")
    folders = [tmp_path / "home", tmp_path / "shipped"]
    assert load_recipe("default", folders, {}).rank == 4
    with pytest.raises(NotFound, match=r"no recipe 'fast'. Known: default"):
        load_recipe("fast", folders, {})


def test_the_digest_follows_the_content_and_not_the_writing(folder):
    one = load_recipe(written(folder, "rank: 16\n"), [], {})
    two = load_recipe(written(folder, "# the same\nseed: 0\nrank: 16\n"), [], {})
    assert one.digest == two.digest != load_recipe(written(folder, "rank: 8\n"), [], {}).digest
    assert load_recipe(written(folder, one.text()), [], {}) == one


def test_set_with_half_a_list_is_told_as_that(folder):
    with pytest.raises(BadInput, match=r"--set target_modules=\[q_proj: not YAML"):
        load_recipe(written(folder, "rank: 8\n"), [], {"target_modules": "[q_proj"})
