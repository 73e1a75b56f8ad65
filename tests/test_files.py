import hashlib

import pytest

from ollama_ft.core.errors import OutOfResources
from ollama_ft.core.files import artefact, digest_file, freeze, write_atomic, write_bytes


def test_an_artefact_is_named_by_its_content(tmp_path):
    digest, path = freeze(tmp_path, b"hello", ".txt")
    assert digest == "sha256:" + hashlib.sha256(b"hello").hexdigest() == digest_file(path)
    assert path == artefact(tmp_path, digest, ".txt")
    assert freeze(tmp_path, b"hello", ".txt") == (digest, path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_what_is_not_written_whole_is_not_there(tmp_path, error):
    path = tmp_path / "kept.txt"
    write_bytes(path, b"old")

    def fail(file):
        file.write(b"half of the n")
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_told_as_such(tmp_path):
    def full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(OutOfResources, match=r"disk is full; model\.gguf"):
        write_atomic(tmp_path / "model.gguf", full)
    assert list(tmp_path.iterdir()) == []
