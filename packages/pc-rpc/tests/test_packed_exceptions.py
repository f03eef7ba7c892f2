"""Exceptions that programs send over channels of their own."""

from __future__ import annotations

import doctest

import pyon
import pytest
from pc_rpc import GenericRemoteException, packed_exceptions
from pc_rpc.packed_exceptions import current_exc_packed, raise_packed_exc


class Unlocked(Exception):
    pass


def packed(error):
    try:
        raise error
    except BaseException:
        return current_exc_packed()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "error", [ValueError("too much"), KeyError("missing"), OSError(5, "bus"), ZeroDivisionError()]
)
def test_a_built_in_exception_comes_back_as_its_class_through_any_codec(error, version):
    pack = pyon.decode(pyon.encode(packed(error), version=version))
    assert set(pack) == {"class", "message", "traceback"}
    with pytest.raises(type(error)) as caught:
        raise_packed_exc(pack)
    assert str(caught.value) == str(error)
    assert "in packed" in "".join(caught.value.parent_traceback)
    assert caught.value.__notes__[0].startswith("Traceback at the server")


def test_another_exception_comes_back_with_the_name_of_its_class():
    pack = packed(Unlocked("the laser"))
    assert pack["class"] == "GenericRemoteException"
    assert packed_exceptions.GenericRemoteException is GenericRemoteException
    with pytest.raises(GenericRemoteException, match=r"Unlocked: the laser"):
        raise_packed_exc(pack)


def test_a_pack_of_an_established_peer_is_raised():
    with pytest.raises(ValueError, match=r"^boom"):
        raise_packed_exc({"class": "ValueError", "message": "boom", "traceback": ["  File x\n"]})


def test_outside_of_an_except_block_there_is_nothing_to_pack():
    with pytest.raises(RuntimeError, match="in an except block"):
        current_exc_packed()


def test_the_examples_are_true():
    assert doctest.testmod(packed_exceptions).failed == 0
