"""Dequantised values: bit for bit those of the reference."""

import gguf
import numpy as np
import pytest

from ollama_ft.core.errors import BadWeights, Unsupported
from ollama_ft.weights.dequant import PIECE, TYPES, dequantize

QUANTISED = [name for name in TYPES if name not in ("F32", "F16", "BF16")]
ISSUE = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"),
)
OTHERS = [kind.name for kind in gguf.GGML_QUANT_SIZES if kind.name not in ISSUE]

# Where the float16 scales lie in a block, in bytes.
SCALES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
EXTREME = np.array([0, -0.0, 65504, -65504, 6e-8, -6e-8, 6.1e-5, 1, -1], np.float16)


def blocks(name: str, count: int) -> np.ndarray:
    """Random blocks; their scales are random too, and every fifth one is extreme."""
    random = np.random.default_rng(sum(name.encode()))
    kind = gguf.GGMLQuantizationType[name]
    data = random.integers(0, 256, (count, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in SCALES.get(name, ()):
        scales = random.normal(0, 1, count).astype(np.float16)
        scales[::5] = random.choice(EXTREME, len(scales[::5]))
        data[:, at : at + 2] = scales.view(np.uint8).reshape(count, 2)
    return data.reshape(-1)


def reference(data: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name]).reshape(-1)


def test_the_types_are_those_that_are_promised() -> None:
    assert sorted(TYPES) == sorted(ISSUE)


@pytest.mark.parametrize("name", QUANTISED)
def test_random_blocks_are_bit_equal_to_the_reference(name: str) -> None:
    # enough for several pieces, the last of them cut short
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][0]
    data = blocks(name, 2 * PIECE // size + 17)
    found = dequantize(data, name)
    assert found.dtype == np.float32
    assert np.array_equal(found.view(np.uint32), reference(data, name).view(np.uint32))


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_every_bit_pattern_of_plain_floats_is_kept(name: str) -> None:
    data = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    found, wanted = dequantize(data, name), reference(data, name)
    numbers = ~np.isnan(wanted)
    assert np.array_equal(found.view(np.uint32)[numbers], wanted.view(np.uint32)[numbers])
    assert np.isnan(found[~numbers]).all()


def test_what_comes_back_is_a_copy_that_may_be_changed() -> None:
    data = np.zeros(64, np.uint8)
    data.flags.writeable = False
    for name in ("F32", "F16", "BF16"):
        dequantize(data, name)[0] = 1.0
    assert not data.any()


@pytest.mark.parametrize("name", [*OTHERS, "Q9_X"])
def test_other_types_are_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        dequantize(np.zeros(1024, np.uint8), name)


def test_bytes_that_are_no_whole_blocks_are_refused() -> None:
    with pytest.raises(BadWeights, match="whole number of Q4_K"):
        dequantize(np.zeros(145, np.uint8), "Q4_K")


def test_an_empty_tensor_gives_an_empty_array() -> None:
    assert dequantize(np.zeros(0, np.uint8), "Q6_K").size == 0
