"""Arrays that get rows at their end, while older views keep their length and values."""

import numpy as np
import pytest
from pyon import growth
from pyon.growth import LEAST_ROOM, as_row, as_rows, grown, is_successor


def test_an_array_grows_by_a_row_and_the_older_one_keeps_its_length_and_values():
    first = np.array([1.0, 2.0])
    second = grown(first, 3.0)
    third = grown(second, np.array([4.0, 5.0]))
    assert [x.tolist() for x in (first, second, third)] == [[1, 2], [1, 2, 3], [1, 2, 3, 4, 5]]
    assert third.dtype == first.dtype


def test_of_two_that_grow_from_one_array_neither_sees_the_row_of_the_other():
    start = grown(np.zeros(1), 1.0)
    one, other = grown(start, 2.0), grown(start, 3.0)
    assert one.tolist() == [0, 1, 2]
    assert other.tolist() == [0, 1, 3]


def test_an_array_without_rows_keeps_the_shape_of_a_row():
    image = grown(np.zeros((0, 2), "i2"), [1, 2])
    assert image.tolist() == [[1, 2]]
    assert image.dtype == "i2"
    assert grown(image, np.array([[3, 4], [5, 6]])).shape == (3, 2)


def test_a_row_is_copied_a_bounded_number_of_times_however_long_the_array_gets(monkeypatch):
    moved = []
    real = growth._with_room

    def counting(array, length):
        memory = real(array, length)
        if memory is not array.base:
            moved.append(len(array))
        return memory

    monkeypatch.setattr(growth, "_with_room", counting)
    array = np.zeros(0)
    for i in range(20_000):
        array = grown(array, float(i))
    assert array.tolist() == list(range(20_000))
    assert sum(moved) < 10 * 20_000
    assert len(array.base) < 1.2 * 20_000


def test_successors_of_one_array_are_recognised_and_no_others():
    start = np.zeros(2)
    second = grown(start, 1.0)
    third = grown(second, 1.0)
    for one, other in [(start, second), (second, third), (start, third)]:
        assert is_successor(one, other)
        assert is_successor(other, one)
    assert not is_successor(third, np.zeros(2))
    assert not is_successor(np.zeros(2), np.zeros(3))
    assert not is_successor(third, grown(np.zeros(2), 1.0))


def test_an_array_that_moved_to_larger_memory_is_still_a_successor():
    start = np.zeros(0)
    second = array = grown(start, 1.0)
    for _ in range(2 * LEAST_ROOM):
        array = grown(array, 1.0)
    assert array.base is not second.base
    assert is_successor(array, second)
    assert is_successor(array, start)


@pytest.mark.parametrize(
    ("array", "x", "row"),
    [
        (np.zeros(1), 7, 7),
        (np.zeros(1, "f4"), np.float64(7), 7),
        (np.zeros(1, "i4"), True, 1),
        (np.zeros((1, 2)), (1, 2), [1, 2]),
        (np.zeros((1, 2)), [[1, 2], [3, 4]][0], [1, 2]),
        (np.zeros(1, [("x", "f8"), ("n", "i4")]), (1.5, 2), (1.5, 2)),
        (np.zeros(1, "S3"), b"abc", b"abc"),
        (np.zeros(1), np.ones(2), [1, 1]),
    ],
    ids=lambda x: f"{type(x).__name__} {x}",
)
def test_a_row_is_what_fits(array, x, row):
    made = as_row(array, x)
    assert (made.tolist() if hasattr(made, "tolist") else made) == row


@pytest.mark.parametrize(
    ("array", "x", "message"),
    [
        (np.zeros(1, int), 1.5, "expected what fits into int64, got float64"),
        (np.zeros(1), 1j, "got complex128"),
        (np.zeros(1, "S3"), b"abcd", "fits into |S3"),
        (np.zeros(1), [1.0], r"expected a row of shape \(\), got \(1,\): extend takes several"),
        (np.zeros((1, 2)), [1, 2, 3], r"shape \(2,\), got \(3,\)"),
        (np.zeros(()), 1.0, "without a dimension"),
    ],
    ids=lambda x: f"{type(x).__name__} {x}",
)
def test_a_row_that_does_not_fit_is_refused_with_the_reason(array, x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        as_row(array, x)


def test_rows_share_no_memory_with_the_callers_arrays():
    given = np.ones((2, 2))
    rows = as_rows(np.zeros((1, 2)), given)
    assert rows.tolist() == given.tolist()
    assert not np.shares_memory(rows, given)
    assert as_rows(np.zeros((1, 2), "i2"), []).shape == (0, 2)


@pytest.mark.parametrize("values", [[1, 2], [[1]], [[[1, 2]]]], ids=str)
def test_rows_of_another_shape_are_refused(values):
    with pytest.raises(ValueError, match=r"expected rows of shape \(2,\)"):
        as_rows(np.zeros((1, 2)), values)
