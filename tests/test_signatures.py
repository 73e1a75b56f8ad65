"""Keys of one's own: what they sign, whom one trusts, and that a changed byte is seen."""

import json
from dataclasses import replace

import pytest

from ollama_ft.core.errors import BadInput, Conflict, NotFound
from ollama_ft.core.home import Home
from ollama_ft.kinds.signatures import (
    ANNOTATION,
    folder,
    known_keys,
    new_key,
    sign,
    signatures,
    trust,
)
from ollama_ft.runtime.oci.artefact import Artefact
from tests.bundles import a_bundle

ARTEFACT = a_bundle().artefact


@pytest.fixture
def maker(tmp_path):
    """Another home, with a key ann."""
    home = Home(path=tmp_path / "maker", origin="--home")
    new_key(home, "ann", {})
    return home


def public(home, name="ann"):
    return folder(home) / f"{name}.pub"


def test_a_signature_by_a_trusted_key_is_known_by_its_name(maker, home):
    signed = sign(maker, ARTEFACT, "ann", {})
    key = trust(home, public(maker), "ann")
    (found,) = signatures(home, signed)
    assert (found.name, found.fingerprint) == ("ann", key.fingerprint)


def test_a_signed_artefact_is_read_back_and_the_same_each_time(maker):
    signed = sign(maker, ARTEFACT, "ann", {})
    assert Artefact.parse(signed.content()) == signed
    assert sign(maker, ARTEFACT, "ann", {}) == signed == sign(maker, signed, "ann", {})
    assert signed.layers == ARTEFACT.layers


def test_several_may_sign(maker, home):
    new_key(maker, "ben", {})
    signed = sign(maker, sign(maker, ARTEFACT, "ann", {}), "ben", {})
    assert {s.name for s in signatures(maker, signed)} == {"ann", "ben"}
    assert {s.name for s in signatures(home, signed)} == {None}


def test_ones_own_key_is_trusted(maker):
    (found,) = signatures(maker, sign(maker, ARTEFACT, "ann", {}))
    assert found.name == "ann"


def test_unsigned_is_seen(home):
    assert signatures(home, ARTEFACT) == []


def test_a_stranger_is_known_by_the_fingerprint_alone(maker, home):
    (found,) = signatures(home, sign(maker, ARTEFACT, "ann", {}))
    assert found.name is None
    assert found.fingerprint == known_keys(maker)[0].fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda a: replace(a, layers=a.layers[1:]),
        lambda a: replace(a, layers=a.layers[::-1]),
        lambda a: replace(a, kind="application/vnd.other"),
        lambda a: replace(a, config=replace(a.config, size=a.config.size + 1)),
        lambda a: a.annotated({"org.opencontainers.image.version": "bot:v3"}),
        lambda a: a.annotated({"more": "x"}),
    ],
)
def test_whatever_is_changed_after_signing_is_refused_even_of_a_stranger(maker, home, change):
    changed = change(sign(maker, ARTEFACT, "ann", {}))
    for at in (maker, home):
        with pytest.raises(BadInput, match="changed after it was signed"):
            signatures(at, changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '[{"key": "AA==", "signature": "AA=="}]',
        '[{"key": "%", "signature": ""}]',
        json.dumps([{"key": "x", "signature": "y"}] * 9),
    ],
)
def test_what_is_no_signature_is_refused(home, text):
    with pytest.raises(BadInput):
        signatures(home, ARTEFACT.annotated({ANNOTATION: text}))


def test_a_key_is_never_overwritten_and_its_private_half_is_private(maker):
    with pytest.raises(Conflict, match="a key ann already"):
        new_key(maker, "ann", {})
    assert (folder(maker) / "ann.key").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in public(maker).read_bytes()


def test_a_key_with_a_passphrase_opens_with_it_alone(maker):
    secret = {"OLLAMA_FT_KEY_PASSPHRASE": "open sesame"}
    new_key(maker, "safe", secret)
    assert sign(maker, ARTEFACT, "safe", secret)
    for env in ({}, {"OLLAMA_FT_KEY_PASSPHRASE": "wrong"}):
        with pytest.raises(BadInput, match="cannot be opened"):
            sign(maker, ARTEFACT, "safe", env)


def test_keys_are_listed_own_ones_first(maker, home):
    new_key(home, "zoe", {})
    trust(home, public(maker), "ann")
    assert [(key.name, key.own) for key in known_keys(home)] == [("zoe", True), ("ann", False)]


def test_another_key_under_a_trusted_name_is_refused(maker, home):
    new_key(maker, "ben", {})
    trust(home, public(maker), "ann")
    trust(home, public(maker), "ann")
    with pytest.raises(Conflict, match="Another key is trusted as ann"):
        trust(home, public(maker, "ben"), "ann")


def test_what_is_no_public_key_is_refused(home, tmp_path, maker):
    (tmp_path / "x.pub").write_text("hello")
    with pytest.raises(BadInput, match="no public key"):
        trust(home, tmp_path / "x.pub", "x")
    with pytest.raises(BadInput, match="no public key"):
        trust(home, folder(maker) / "ann.key", "x")
    with pytest.raises(NotFound):
        trust(home, tmp_path / "gone.pub", "x")
    with pytest.raises(BadInput, match="no key's name"):
        trust(home, public(maker), "../ann")
    with pytest.raises(NotFound, match="no key nobody"):
        sign(home, ARTEFACT, "nobody", {})


def test_a_key_without_a_passphrase_is_opened_where_one_is_set(home):
    new_key(home, "ann", {})
    signed = sign(home, ARTEFACT, "ann", {"OLLAMA_FT_KEY_PASSPHRASE": "for another key"})
    assert signatures(home, signed)[0].name == "ann"
