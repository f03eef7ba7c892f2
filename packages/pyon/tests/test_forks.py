"""The child of a fork drops the resources that only one process can use."""

import os
import socket
import sys
import threading

import pytest
from pyon import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


class Owner:
    def __init__(self):
        self.ours, self.theirs = socket.socketpair()
        self.lock = threading.Lock()
        self.lost = False
        forks.register(self)

    def forked(self):
        self.lost = True
        self.lock = threading.Lock()
        forks.drop_descriptor(self.ours.fileno())


def in_child(check):
    """Fork, and return whether `check` returned True in the child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if check() is True else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_owners_are_called_in_the_child_before_any_other_code():
    owner = Owner()
    with owner.lock, owner.ours, owner.theirs:
        assert in_child(lambda: owner.lost and owner.lock.acquire(blocking=False))
        assert not owner.lost


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_the_child_sends_or_closes_does_not_reach_the_parents_peer():
    owner = Owner()

    def meddle():
        with pytest.raises(OSError):
            owner.ours.send(b"from the child")
        owner.ours.close()
        return True

    with owner.theirs:
        assert in_child(meddle)
        owner.ours.sendall(b"from the parent")
        assert owner.theirs.recv(100) == b"from the parent"
        owner.ours.close()
        assert owner.theirs.recv(100) == b""


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_owner_that_fails_does_not_keep_the_others_from_being_called(monkeypatch):
    class Failing(Owner):
        def forked(self):
            super().forked()
            raise ValueError("no")

    owners = [Failing(), Owner(), Failing(), Owner()]
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reports.append(report.exc_value))
    assert in_child(lambda: all(owner.lost for owner in owners) and len(reports[0].exceptions) == 2)
    for owner in owners:
        owner.ours.close()
        owner.theirs.close()


def test_a_descriptor_that_is_closed_already_is_left_alone():
    forks.drop_descriptor(-1)


def test_an_owner_is_not_kept_alive():
    owner = Owner()
    owner.ours.close()
    owner.theirs.close()
    before = len(forks._owners)
    del owner
    assert len(forks._owners) < before
