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


def test_a_buffer_may_be_empty_in_any_shape():
    text = '{"__jsonclass__":["nparray",[[0,3],"<f8",0]]}'
    for buffer in (b"", np.zeros((0, 3)).data):
        assert pyon.decode(text, buffers=[buffer]).shape == (0, 3)


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


PADDED = np.dtype([("a", "i1"), ("b", "<i4")], align=True)


@pytest.mark.parametrize("nested", [False, True])
def test_what_is_in_memory_between_fields_is_not_told(version, nested):
    raw = b"\x01\xaa\xbb\xcc\x02\0\0\0" * 2
    dtype = np.dtype([("s", PADDED, (2,))]) if nested else PADDED
    array = np.frombuffer(raw, dtype)
    clean = np.frombuffer(raw.replace(b"\xaa\xbb\xcc", b"\0\0\0"), dtype)
    for item, clean_item in ((array, clean), (array[0], clean[0])):
        text = pyon.encode(item, version=version)
        assert text == pyon.encode(clean_item, version=version)
        assert str(pyon.decode(text)) == str(item)


@pytest.mark.parametrize("dtype", ["<M8[0s]", "<m8[0s]", "<M8[007s]"])
def test_steps_of_time_that_numpy_cannot_handle_are_refused(dtype):
    with pytest.raises(pyon.DecodeError, match="dtype"):
        pyon.decode(f'nparray((1, ), "{dtype}", b"AAAAAAAAAAA=")')


@pytest.mark.parametrize("nested", [False, True])
def test_records_are_refused_because_they_would_come_back_without_attributes(version, nested):
    dtype = np.dtype((np.record, [("a", "i4")]))
    array = np.zeros(3, [("r", dtype)] if nested else dtype)
    with pytest.raises(pyon.EncodeError, match="no PYON form for the dtype"):
        pyon.encode(array, version=version)
    as_void = np.zeros(3, [("a", "i4")])
    assert pyon.decode(pyon.encode(as_void, version=version)).dtype == as_void.dtype


def test_a_numpy_string_of_what_is_no_character_is_refused():
    with pytest.raises(pyon.DecodeError, match="npscalar"):
        pyon.decode('npscalar("<U1", b"////fw==")')
