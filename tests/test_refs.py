import pytest

from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.refs import current_family, family, resolve
from ollama_ft.stages.promote import promote
from tests.rows import a_family, a_version


@pytest.fixture
def versions(db):
    """bot:v0 … v3, promoted in turn, so that v3 is live."""
    bot = a_family(db)
    made = [a_version(db, bot, n) for n in range(4)]
    for version in made:
        promote(db, version, lambda v: "d", "")
    return made


@pytest.mark.parametrize(
    ("ref", "number"),
    [
        (None, 3),
        ("", 3),
        ("bot", 3),
        ("bot:latest", 3),
        ("bot@live", 3),
        ("@live", 3),
        ("bot:v2", 2),
        ("v2", 2),
        (":v2", 2),
        ("bot@prev", 2),
        ("@prev", 2),
        ("bot~1", 2),
        ("~2", 1),
        ("bot@base", 0),
        ("bbbbb", None),
    ],
)
def test_a_reference_means_one_version(db, versions, ref, number):
    if number is None:
        with pytest.raises(NotFound):
            resolve(db, ref)
    else:
        assert resolve(db, ref).number == number


def test_six_digits_of_a_digest_are_enough(db, versions):
    assert resolve(db, versions[2].digest.removeprefix("sha256:")[:6]) == versions[2]
    assert resolve(db, versions[2].digest) == versions[2]


def test_a_digest_that_fits_several_versions_is_refused(db):
    bot = a_family(db)
    first = a_version(db, bot, 1)
    a_version(db, bot, 17)  # its digest begins with the same digits
    with pytest.raises(NotFound, match="No version"):
        resolve(db, "abcdef")
    assert resolve(db, first.digest[7:13]).family == "bot"


@pytest.mark.parametrize(
    "ref",
    ["Bot:v1", "bot:v", "bot@champion", "bot~", "b b", "v-1", "bot:v1:v2", "bot:v" + "9" * 20],
)
def test_what_is_no_reference_is_refused_with_examples(db, versions, ref):
    with pytest.raises((BadInput, NotFound), match=r"reference|no family"):
        resolve(db, ref)


def test_too_far_back_says_so(db, versions):
    with pytest.raises(NotFound, match="that far back"):
        resolve(db, "bot~4")


def test_an_unknown_family_is_told_with_the_known_ones(db, versions):
    with pytest.raises(NotFound, match=r"no family 'cat'. Known: bot"):
        family(db, "cat")


def test_without_any_family_the_message_says_how_to_start(db):
    with pytest.raises(NotFound) as caught:
        current_family(db)
    assert "ollama-ft new" in caught.value.mend
