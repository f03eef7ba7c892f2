"""Arrays that were read behave like arrays created by numpy."""

import base64

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
def test_memory_between_fields_is_not_written(version, nested):
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


def test_a_numpy_string_with_an_invalid_character_is_refused():
    with pytest.raises(pyon.DecodeError, match="npscalar"):
        pyon.decode('npscalar("<U1", b"////fw==")')


# --- as arrays were written until May 2016: the dtype as `str` gives it, base64 as a string

OLD_CODES = [
    *("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"),
    *(f"{code}[{unit}]" for code in ("M8", "m8") for unit in ("Y", "s", "ns", "25s")),
    *("M8", "m8", "S3", "U2", "V2", ">i4", ">f8", ">M8[ns]", "g", "G"),
]


@pytest.mark.parametrize("code", OLD_CODES)
def test_arrays_and_scalars_with_the_name_of_their_dtype_are_read(code, same):
    dtype = np.dtype(code)
    x = np.full(2, "xyz", dtype) if dtype.kind in "SU" else np.zeros(2, dtype)
    data = x.tobytes()
    spelled = base64.b64encode(data).decode()
    for text in (
        f'nparray((2, ), "{dtype!s}", "{spelled}")',
        f"nparray((2,), '{dtype!s}', b'{spelled}')",
        f'{{"__jsonclass__":["nparray",[[2],"{dtype!s}","{spelled}"]]}}',
    ):
        assert same(pyon.decode(text), x)
    spelled = base64.b64encode(data[: dtype.itemsize]).decode()
    assert same(pyon.decode(f'npscalar("{dtype!s}", "{spelled}")'), x[0])


def test_long_arrays_with_the_name_of_their_dtype_are_read(same):
    x = np.arange(10_000.0)
    spelled = base64.b64encode(x.tobytes()).decode()
    for text in (
        f'nparray((10000, ), "float64", "{spelled}")',
        f'nparray((10000, ), "float64", b"{spelled}")',
    ):
        assert same(pyon.decode(text), x)
        assert same(pyon.decode(text.encode()), x)


# --- long doubles: where this machine has them

LONG = np.dtype(np.longdouble)
has_long_doubles = pytest.mark.skipif(LONG.itemsize == 8, reason="here they are doubles")


@has_long_doubles
@pytest.mark.parametrize("code", ["g", "G"])
@pytest.mark.parametrize("order", ["=", ">"])
def test_long_doubles_are_kept_to_the_last_digit(version, code, order):
    dtype = np.dtype(code).newbyteorder(order)
    third = np.array([1, -1, 1], code) / np.array([3], code)
    x = np.array([*third, np.inf, -0.0, np.finfo(LONG).max]).astype(dtype)
    for y in (x, x[::2], x.reshape(2, 3).T, x[0], np.array(x[1])):
        back = pyon.decode(pyon.encode(y, version=version))
        assert type(back) is type(y)
        assert back.dtype == y.dtype
        assert np.array_equal(back, y)
        assert np.array_equal(np.signbit(back.real), np.signbit(y.real))


@has_long_doubles
def test_padding_of_long_doubles_is_not_written(version):
    fields = [("a", LONG), ("b", "i1"), ("c", "G", (2,))]
    for dtype in (LONG, np.dtype("G"), LONG.newbyteorder(">"), np.dtype(fields)):
        for shape in ((), (3,), (500,)):
            texts, scalars = set(), set()
            for junk in (0, 255):
                memory = bytearray([junk]) * (dtype.itemsize * int(np.prod(shape)))
                x = np.ndarray(shape, dtype, memory)
                x[...] = np.ones((), dtype) if dtype.names is None else (1, 2, 3)
                texts.add(pyon.encode(x, version=version))
                scalars.add(pyon.encode(x.reshape(-1)[0], version=version))
            assert len(texts) == len(scalars) == 1


@has_long_doubles
def test_long_doubles_of_other_machines_are_an_error_that_says_so():
    absent = next(size for size in (12, 16) if size != LONG.itemsize)
    for name in (f"<f{absent}", f"float{8 * absent}", f">c{2 * absent}"):
        text = f'nparray((0, ), "{name}", b"")'
        with pytest.raises(pyon.DecodeError, match="this machine has no long doubles"):
            pyon.decode(text)
