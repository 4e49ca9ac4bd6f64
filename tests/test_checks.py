"""One readable error for each thing that can be wrong."""

import numpy as np
import pytest

from tfae import checks


@pytest.mark.parametrize("seed", [-1, 2**31, 2**40, 1.0, True, None, "0"])
def test_seeds_that_a_generator_refuses_are_refused_at_once(seed):
    with pytest.raises(ValueError, match=r"seed is .* a whole number from 0 to 2147483647"):
        checks.check_seed(seed)


def test_the_largest_seed_is_taken():
    assert checks.check_seed(np.int64(2**31 - 1)) == 2**31 - 1


@pytest.mark.parametrize("value", [0, -3, 2.0, True, "2", None])
def test_sizes_are_whole_numbers_above_zero(value):
    with pytest.raises(ValueError, match=r"width is .*; it must be a whole number of at least 1"):
        checks.check_size(value, "width")


@pytest.mark.parametrize(
    ("value", "open_ends"), [(0, True), (1, True), (1.5, False), (float("nan"), False), ("a", False)]
)
def test_numbers_lie_in_their_interval(value, open_ends):
    with pytest.raises(ValueError, match=r"share is .* a number in [\[(]0, 1[\])]"):
        checks.check_number(value, "share", 0, 1, open_ends=open_ends)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 4)), r"shape \(3, 4\); this model takes \(n, 2, 2\).*reshape\(\(-1, 2, 2\)\)"),
        (np.zeros((2, 2)), r"For a single sample, give x\[np.newaxis\]"),
        (np.zeros((0, 2, 2)), "x is empty"),
        (np.full((1, 2, 2), 1e39), r"4 values that are beyond 3.4e\+38, the largest that float32 holds"),
        (np.array([[[0, np.inf], [0, 0]]]), r"1 values that are NaN or infinite, the first at \(0, 0, 1\)"),
        (np.array([[["a", "b"], ["c", "d"]]]), "dtype <U1; it must hold real numbers"),
    ],
)
def test_samples_say_what_is_wrong(x, message):
    with pytest.raises(ValueError, match=message):
        checks.check_samples(x, (2, 2))


class Kind:
    def __init__(self, kind):
        self.kind = kind


class Frame:
    """What pandas gives, as far as it is looked at: columns, their kinds, and numbers with gaps."""

    def __init__(self, kinds):
        self.columns, self.dtypes = list(kinds), [Kind(kind) for kind in kinds.values()]

    def to_numpy(self, dtype, na_value):
        return np.array([[1.0, 2.0], [3.0, na_value]], dtype)


def test_columns_of_words_are_named():
    with pytest.raises(ValueError, match="the columns city, day of x hold no numbers"):
        checks.check_samples(Frame({"age": "i", "city": "O", "day": "M"}), (3,))


def test_what_is_missing_in_a_frame_is_nan():
    with pytest.raises(ValueError, match=r"1 values that are NaN or infinite, the first at \(1, 1\)"):
        checks.check_samples(Frame({"age": "i", "height": "f"}), (2,))
