"""The base64 of long arrays, which is cut out before parsing."""

import numpy as np
import pyon
import pytest
from pyon._base64 import CHUNK

LONG = np.arange(100_000.0)


@pytest.mark.parametrize("kind", [str, str.encode])
def test_long_and_short_arrays_among_others(version, kind, same):
    x = [
        LONG,
        {"a": LONG[:3], "b": (LONG[5:], "nparray((1, )")},
        b"x" * 30_000,
        LONG.reshape(100, -1),
    ]
    assert same(pyon.decode(kind(pyon.encode(x, version=version))), x)
    assert same(pyon.decode(kind(pyon.encode(x, pretty=True, version=version))), x)


@pytest.mark.parametrize(
    "x",
    [
        ["nparray", [[100_000], "<f8", "A" * 40_000]],
        'nparray((1, ), "<f8", b"' + "A" * 40_000 + '"',
        ['x"nparray"', [[1], "<f8", "A" * 40_000]],
        {"nparray": [[1], "<f8", "A" * 40_000]},
    ],
)
def test_a_string_that_looks_like_a_long_array_is_kept(version, x, same):
    for value in (x, [LONG, x, LONG]):
        assert same(pyon.decode(pyon.encode(value, version=version)), value)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(50_000).astype("M8[25s]"),
        np.full(9000, "abc"),
        np.zeros((200, 0, 300), ">i2"),
        np.ones((2, 100, 300), ">i2"),
        np.zeros(20_000, [("a", "<i4"), ("b", "|S1")]),
        np.full(30_001, 1j),
    ],
    ids=lambda x: x.dtype.str,
)
def test_long_arrays_of_any_dtype(version, x, same):
    assert same(pyon.decode(pyon.encode([x, x], version=version).encode()), [x, x])


@pytest.mark.parametrize("number", [-1, -2, 0])
def test_no_number_means_base64_that_was_cut_out(number):
    base64 = pyon.encode(LONG, version=2).split('"')[-2]
    spelled = f'["nparray",[[100000],"<f8","{base64}"]]'
    for array in (spelled, spelled[1:-1].replace('"nparray"', '"x","nparray"')):
        text = f'[[{array}],{{"__jsonclass__":["nparray",[[100000],"<f8",{number}]]}}]'
        with pytest.raises(pyon.DecodeError, match="number of a buffer"):
            pyon.decode(text)


def test_a_registered_form_with_nearly_that_name_is_given_its_arguments_once(version):
    seen = []

    class Wave(list):
        pass

    def make(*arguments):
        seen.append(arguments)
        return Wave(arguments)

    codec = pyon.Codec()
    codec.register(Wave, name="my_nparray", encode=tuple, decode=make)
    base64 = "A" * 50_000
    wave = Wave([(1, 2), "<f8", base64 if version == 2 else base64.encode()])
    text = codec.encode([wave, wave], version=version)
    assert codec.decode(text) == [wave, wave]
    assert seen == [tuple(wave)] * 2


def test_a_quotation_mark_before_the_place_where_the_shape_has_the_base64_end():
    early = f'nparray((30000, ), "|i1", b"{"A" * 20_000}")'
    text = f'({early}, "{"A" * (40_000 - 20_000 - 5)}", 1)'
    with pytest.raises(pyon.DecodeError, match="30000 items"):
        pyon.decode(text)


@pytest.mark.parametrize("spoil", ["!", "=", "\\", " ", '"', "\u00e9"])
@pytest.mark.parametrize("place", [0.01, 0.5, 0.999])
def test_a_single_bad_character_in_long_base64(version, spoil, place):
    text = pyon.encode([LONG], version=version)
    at = int(len(text) * place)
    for bad in (text[:at] + spoil + text[at + 1 :], text[:at] + text[at + 4 :]):
        for source in (bad, bad.encode()):
            with pytest.raises(pyon.DecodeError):
                pyon.decode(source)


@pytest.mark.parametrize("padding", ["=", "=="])
def test_padding_in_the_middle_of_long_base64_is_an_error(version, padding):
    text = pyon.encode(LONG, version=version)
    end = text.index('"', text.index("<f8") + 4) + 1 + CHUNK  # the end of the first chunk
    bad = text[: end - len(padding)] + padding + text[end:]
    for source in (bad, bad.encode()):
        with pytest.raises(pyon.DecodeError):
            pyon.decode(source)


def test_numbers_in_the_place_of_base64_mean_buffers_only():
    text = pyon.encode([LONG, LONG], version=2)
    for bad in ('["nparray",[[100000],"<f8",-1]]', '["nparray",[[100000],"<f8",0]]'):
        forged = text[:-1] + ',{"__jsonclass__":' + bad + "}]"
        with pytest.raises(pyon.DecodeError, match="buffer"):
            pyon.decode(forged)


def test_buffers_are_used_exactly_once():
    buffers = []
    text = pyon.encode([LONG, LONG[:1000]], version=2, buffer_callback=buffers.append)
    assert len(buffers) == 2
    twice = text.replace(",1]]}", ",0]]}")
    for bad, given in (
        (text, buffers[:1]),
        (twice, buffers),
        ("[]", buffers),
        (text, [*buffers, b""]),
    ):
        with pytest.raises(pyon.DecodeError, match="buffer"):
            pyon.decode(bad, buffers=given)
    readonly = pyon.decode(text, buffers=[bytes(b) for b in buffers])
    assert all(array.flags.writeable for array in readonly)
