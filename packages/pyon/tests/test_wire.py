"""The codec for protocols: texts in pieces, and a known generation."""

import numpy as np
import pyon
import pytest
from pyon import wire


def joined(pieces):
    return "".join(p if type(p) is str else p.decode() for p in pieces)


@pytest.mark.parametrize(
    "x", [1, "a", [1, 2], (np.arange(9000.0), {"b": np.zeros(9000)}), b"x" * 9000]
)
def test_pieces_with_text_around_them_are_the_same_text(version, x):
    pieces = wire.around("<", wire.encode_pieces(x, version=version), ">")
    assert joined(pieces) == f"<{pyon.encode(x, version=version)}>"
    assert type(pieces[0]) is type(pieces[-1]) is str


def test_a_known_generation_is_read_without_trying_the_other(version, same):
    x = [(1, {"a": {2}}), np.arange(3000.0), [1.5], {"b": None}]
    for value in (x, *x):
        text = pyon.encode(value, version=version)
        assert same(wire.decode(text, version=version), value)
        assert same(wire.decode(text.encode(), version=version), value)


def test_a_text_of_the_other_generation_is_an_error_or_means_what_it_means_there():
    with pytest.raises(pyon.DecodeError, match="parenthesis"):
        wire.decode("(1, )", version=2)
    with pytest.raises(pyon.DecodeError, match="comma before"):
        wire.decode("[1,]", version=2)
    # A dict of an old v1 writer, which had no tags.
    text = '{"__jsonclass__": ["tuple", [[1]]]}'
    assert wire.decode(text, version=1) == {"__jsonclass__": ["tuple", [[1]]]}
    assert wire.decode(text, version=2) == (1,)
