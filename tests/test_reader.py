"""GGUF headers: what is read, and that no file can make reading slow, large or wrong."""

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_ft.core.errors import BadInput, BadWeights, NotFound, Unsupported
from ollama_ft.weights.header import GGML_TYPES
from ollama_ft.weights.reader import open_gguf

VALUES: dict[str, tuple[str, object]] = {
    "a.u8": ("add_uint8", 7),
    "a.i8": ("add_int8", -7),
    "a.u16": ("add_uint16", 65535),
    "a.i16": ("add_int16", -32768),
    "a.u32": ("add_uint32", 2**32 - 1),
    "a.i32": ("add_int32", -(2**31)),
    "a.u64": ("add_uint64", 2**64 - 1),
    "a.i64": ("add_int64", -(2**63)),
    "a.f32": ("add_float32", 0.5),
    "a.f64": ("add_float64", 1e-300),
    "a.yes": ("add_bool", True),
    "a.text": ("add_string", "grüß 你好"),
    "a.texts": ("add_array", ["", "a", "你好", "x" * 300]),
    "a.numbers": ("add_array", [1, -2, 3]),
    "a.reals": ("add_array", [0.5, -1.5]),
    "a.flags": ("add_array", [True, False]),
}


def small(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for key, (method, value) in VALUES.items():
        getattr(writer, method)(key, value)
    writer.add_tensor("one", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("two", np.arange(8, dtype=np.float16).reshape(2, 2, 2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small(tmp_path_factory.mktemp("gguf") / "small.gguf").read_bytes()


def header(tensors: int, values: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values) + rest


def text(content: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if size is None else size) + content


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def test_reads_what_the_gguf_package_wrote(tmp_path: Path) -> None:
    with open_gguf(small(tmp_path / "small.gguf")) as read:
        assert {key: read.metadata[key] for key in VALUES} == {k: v for k, (_, v) in VALUES.items()}
        assert read.architecture == "llama"
        assert read.tensors["one"].shape == (2, 3) and read.tensors["one"].type == "F32"
        assert read.tensors["two"].shape == (2, 2, 2) and read.tensors["two"].type == "F16"
        assert read.raw("one").view(np.float32).tolist() == [0, 1, 2, 3, 4, 5]
        assert read.raw("two").view(np.float16).tolist() == list(range(8))


def test_tensor_bytes_are_a_view_of_the_file_that_outlives_closing(tmp_path: Path) -> None:
    with open_gguf(small(tmp_path / "small.gguf")) as read:
        raw = read.raw("one")
    assert raw.base is not None and not raw.flags.writeable
    assert raw.view(np.float32)[5] == 5
    with pytest.raises(ValueError, match="closed"):
        read.raw("one")


def test_every_type_of_the_gguf_package_is_known_with_its_block_sizes() -> None:
    known = {
        kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGML_QUANT_SIZES
    }
    assert known == GGML_TYPES


@pytest.mark.parametrize(
    ("getter", "key", "default", "value"),
    [
        ("text", "a.text", None, "grüß 你好"),
        ("text", "none", "d", "d"),
        ("whole", "a.u32", None, 2**32 - 1),
        ("whole", "none", 3, 3),
        ("real", "a.i8", None, -7.0),
        ("flag", "a.yes", None, True),
        ("texts", "a.texts", ..., ["", "a", "你好", "x" * 300]),
        ("wholes", "a.numbers", ..., [1, -2, 3]),
        ("reals", "a.numbers", ..., [1.0, -2.0, 3.0]),
    ],
)
def test_values_are_given_with_their_type(
    tmp_path: Path, getter: str, key: str, default: object, value: object
) -> None:
    with open_gguf(small(tmp_path / "small.gguf")) as read:
        arguments = (key,) if default is ... else (key, default)
        found = getattr(read, getter)(*arguments)
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize("getter", ["text", "whole", "real", "flag", "texts", "wholes", "reals"])
def test_values_of_another_type_or_missing_are_bad_weights(tmp_path: Path, getter: str) -> None:
    with open_gguf(small(tmp_path / "small.gguf")) as read:
        wrong = "a.yes" if getter != "flag" else "a.u8"
        with pytest.raises(BadWeights, match=wrong):
            getattr(read, getter)(wrong)
        with pytest.raises(BadWeights, match=r"not\.there is missing"):
            getattr(read, getter)("not.there")


LIES: dict[str, tuple[bytes, type[BadInput], str]] = {
    "empty": (b"", BadWeights, "too short"),
    "another file": (b"PK\3\4" + bytes(60), BadWeights, "not a GGUF"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), Unsupported, "big-endian"),
    "version 1": (header(0, 0, version=1), Unsupported, "version 1"),
    "version 4": (header(0, 0, version=4), Unsupported, "version 4"),
    "2^64 tensors": (header(2**64 - 1, 0), BadWeights, "announces"),
    "2^63 values": (header(0, 2**63), BadWeights, "announces"),
    "no values at all": (header(0, 5), BadWeights, "announces"),
    "key of 2^60 bytes": (header(0, 1, text(b"k", 2**60) + bytes(64)), BadWeights, "key"),
    "key of 0 bytes": (header(0, 1, text(b"") + bytes(64)), BadWeights, "key"),
    "key that is no UTF-8": (header(0, 1, text(b"\xff\xfe") + bytes(64)), BadWeights, "UTF-8"),
    "text past the end": (
        header(0, 1, text(b"k") + struct.pack("<IQ", 8, 2**62) + bytes(64)),
        BadWeights,
        "past byte",
    ),
    "array past the end": (
        header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 4, 2**61) + bytes(64)),
        BadWeights,
        "announces",
    ),
    "texts past the end": (
        header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 8, 2**40) + bytes(64)),
        BadWeights,
        "announces",
    ),
    "array of arrays": (
        header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 9, 1) + bytes(64)),
        BadWeights,
        "unknown type 9",
    ),
    "unknown value type": (
        header(0, 1, text(b"k") + struct.pack("<I", 77) + bytes(64)),
        BadWeights,
        "unknown type 77",
    ),
    "neither true nor false": (
        header(0, 1, text(b"k") + struct.pack("<IB", 7, 2) + bytes(64)),
        BadWeights,
        "neither true",
    ),
    "same key twice": (
        header(0, 2, 2 * (text(b"k") + struct.pack("<IB", 0, 1)) + bytes(64)),
        BadWeights,
        "twice",
    ),
    "alignment 0": (
        header(0, 1, text(b"general.alignment") + struct.pack("<II", 4, 0) + bytes(64)),
        BadWeights,
        "alignment",
    ),
    "alignment 24": (
        header(0, 1, text(b"general.alignment") + struct.pack("<II", 4, 24) + bytes(64)),
        BadWeights,
        "alignment",
    ),
    "alignment true": (
        header(0, 1, text(b"general.alignment") + struct.pack("<IB", 7, 1) + bytes(64)),
        BadWeights,
        "alignment",
    ),
    "tensor past the end": (
        header(1, 0, tensor(b"t", (8,), 0, 32) + bytes(64)),
        BadWeights,
        "ends at",
    ),
    "tensor of 2^63 elements": (
        header(1, 0, tensor(b"t", (2**31, 2**32), 0, 0) + bytes(64)),
        BadWeights,
        "ends at",
    ),
    "sizes that overflow to 0": (
        header(1, 0, tensor(b"t", (2**32, 2**32), 0, 0) + bytes(64)),
        BadWeights,
        "ends at",
    ),
    "offset 2^64-32": (
        header(1, 0, tensor(b"t", (8,), 0, 2**64 - 32) + bytes(64)),
        BadWeights,
        "ends at",
    ),
    "offset off the grid": (
        header(1, 0, tensor(b"t", (8,), 0, 4) + bytes(64)),
        BadWeights,
        "32 bytes",
    ),
    "size 0": (header(1, 0, tensor(b"t", (0, 8), 0, 0) + bytes(64)), BadWeights, "shape"),
    "half a block": (header(1, 0, tensor(b"t", (16,), 2, 0) + bytes(64)), BadWeights, "shape"),
    "no dimensions": (header(1, 0, tensor(b"t", (), 0, 0) + bytes(64)), BadWeights, "0 dimensions"),
    "2^32-1 dimensions": (
        header(1, 0, text(b"t") + struct.pack("<I", 2**32 - 1) + bytes(64)),
        BadWeights,
        "4294967295 dimensions",
    ),
    "unknown tensor type": (
        header(1, 0, tensor(b"t", (8,), 5, 0) + bytes(64)),
        Unsupported,
        "type 5",
    ),
    "name of 64 bytes": (
        header(1, 0, tensor(b"t" * 64, (8,), 0, 0) + bytes(64)),
        BadWeights,
        "64 bytes",
    ),
    "same tensor twice": (
        header(2, 0, tensor(b"t", (8,), 0, 0) + tensor(b"t", (8,), 0, 32) + bytes(128)),
        BadWeights,
        "twice",
    ),
    "tensors on top of each other": (
        header(2, 0, tensor(b"t", (16,), 0, 0) + tensor(b"u", (8,), 0, 32) + bytes(128)),
        BadWeights,
        "on top",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_file_that_lies_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, kind, message = LIES[name]
    path = tmp_path / "lie.gguf"
    path.write_bytes(content)
    with pytest.raises(kind, match=message), quickly():
        open_gguf(path)


def test_a_missing_file_is_not_found_and_a_folder_is_bad(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_gguf(tmp_path / "nothing.gguf")
    with pytest.raises(BadWeights):
        open_gguf(tmp_path)


def test_a_huge_file_of_empty_texts_is_refused_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(header(0, 1, text(b"k") + struct.pack("<IIQ", 9, 8, 40_000_000)))
        file.truncate(400_000_000)  # sparse: zeros are texts of length 0
    with pytest.raises(BadWeights, match="announces"), quickly():
        open_gguf(path)


def test_a_huge_file_of_tiny_values_is_refused_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(header(2**20, 2**20))
        file.truncate(400_000_000)
    with pytest.raises(BadWeights, match="key"), quickly():
        open_gguf(path)


MUTATIONS: list[Callable[[bytearray, int, bytes], None]] = [
    lambda data, at, new: data.__setitem__(slice(at, at + len(new)), new),
    lambda data, at, new: data.__setitem__(slice(at, at), new),
    lambda data, at, new: data.__delitem__(slice(at, at + len(new))),
    lambda data, at, new: data.__delitem__(slice(at, None)),
]
EXTREMES = [struct.pack("<Q", value) for value in (0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)]


@settings(
    max_examples=400, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(MUTATIONS),
            st.floats(0, 1, exclude_max=True),
            st.one_of(st.binary(min_size=1, max_size=12), st.sampled_from(EXTREMES)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_mutation_makes_reading_crash_hang_or_allocate(
    image: bytes, tmp_path: Path, changes: list[tuple[Callable[..., None], float, bytes]]
) -> None:
    data = bytearray(image)
    for mutate, where, new in changes:
        mutate(data, int(where * len(data)), new)
    path = tmp_path / "mutated.gguf"
    path.write_bytes(data)
    try:
        with quickly(), open_gguf(path) as read:
            for name, info in read.tensors.items():
                assert read.raw(name).size == info.nbytes
                assert info.offset + info.nbytes <= len(data)
    except (BadWeights, Unsupported) as error:
        assert str(error)


@given(length=st.floats(0, 1, exclude_max=True))
@settings(
    max_examples=100, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_truncation_is_refused(image: bytes, tmp_path: Path, length: float) -> None:
    end = len(image) - 48  # the last tensor takes 16 bytes and is padded to 32
    path = tmp_path / "short.gguf"
    path.write_bytes(image[: int(length * end)])
    with pytest.raises(BadWeights), quickly():
        open_gguf(path)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "seconds"), [("smollm2_gguf", 0.1), ("gemma3_gguf", 0.5)])
def test_real_headers_open_fast(model: str, seconds: float, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(model)
    taken = []
    for _ in range(3):
        start = time.process_time()
        open_gguf(path).close()
        taken.append(time.process_time() - start)
    assert min(taken) <= seconds


class quickly:
    """The block takes less than a second and one megabyte."""

    def __enter__(self) -> None:
        tracemalloc.start()
        self.start = time.process_time()

    def __exit__(self, *_: object) -> None:
        taken, (_, peak) = time.process_time() - self.start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken < 1 and peak < 1_000_000, f"{taken:.2f} s, {peak:,} bytes"
