"""Arrays that were read are like those that numpy makes."""

import numpy as np
import pyon
import pytest


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "array",
    [
        np.array(5.0),
        np.zeros((0, 3)),
        np.zeros(2, "S0"),
        np.arange(6).reshape(2, 3).T,
        np.broadcast_to(np.arange(3, dtype=">i2"), (2, 3)),
        np.array(["2020-01-01"], "M8[D]"),
        np.array([(1, 2.0)], [("a", "<i4"), ("b", ">f8")]),
        np.arange(100_000.0).reshape(10, -1),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_were_read_are_writable_aligned_and_own_their_data(array, version):
    decoded = pyon.decode(pyon.encode(array, version=version))
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    assert decoded.tobytes() == array.tobytes()
    assert decoded.flags.writeable
    assert decoded.flags.aligned
    assert decoded.flags.owndata


def test_array_on_a_buffer_that_was_handed_over_lies_in_that_very_memory():
    buffers = []
    array = np.arange(10_000.0)
    text = pyon.encode(array, version=2, buffer_callback=buffers.append)
    received = [bytearray(buffer) for buffer in buffers]
    decoded = pyon.decode(text, buffers=received)
    np.testing.assert_array_equal(decoded, array)
    assert np.shares_memory(decoded, np.frombuffer(received[0]))
    assert decoded.flags.writeable


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "scalar",
    [
        np.str_("x\0"),
        np.str_("\0"),
        np.str_(""),
        np.str_("\u6f22\ud83d"),
        np.bytes_(b"x\0\0"),
        np.bytes_(b""),
    ],
    ids=ascii,
)
def test_numpy_strings_keep_the_nuls_at_their_end(scalar, version):
    decoded = pyon.decode(pyon.encode(scalar, version=version))
    assert type(decoded) is type(scalar)
    assert (len(decoded), decoded) == (len(scalar), scalar)


def test_a_numpy_string_of_what_is_no_character_is_refused():
    with pytest.raises(pyon.DecodeError, match="npscalar"):
        pyon.decode('npscalar("<U1", b"////fw==")')
