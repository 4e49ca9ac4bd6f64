import numpy as np
import pytest

from tfae import strokes

INDEX = {name: i for i, name in enumerate(strokes.FACTOR_NAMES)}


def one_at_a_time(name, values, digit=5, style=0, seed=7):
    """Images and ink (0 to 1) of one digit, all factors fixed but one; each row has the same wobble."""
    plain = {"class": digit, "slant": 0, "rotation": 0, "thickness": 2.4, "aspect": 1, "size": 16, "style": style}
    images = []
    for value in values:
        factors = np.array([[{**plain, name: value}[factor] for factor in strokes.FACTOR_NAMES]])
        images.append(strokes.draw(factors, seed=seed)[0] / 255)
    return np.array(images)


def extent(image, axis):
    """First and last row (axis=1) or column (axis=0) that has ink."""
    marked = np.flatnonzero((image > 0.5).any(axis=axis))
    return marked[0], marked[-1]


def moments(image):
    """Second moments of the ink: across, down, and mixed."""
    y, x = np.mgrid[:28, :28]
    weight = image / image.sum()
    dx, dy = x - (weight * x).sum(), y - (weight * y).sum()
    return (weight * dx * dx).sum(), (weight * dy * dy).sum(), (weight * dx * dy).sum()


def test_the_same_seed_draws_the_same_images():
    first, second, other = strokes.make(50, seed=3), strokes.make(50, seed=3), strokes.make(50, seed=4)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


def test_fewer_images_are_the_first_of_more():
    images, factors = strokes.make(200, seed=3)
    np.testing.assert_array_equal(strokes.draw(factors[:70], seed=3), images[:70])


def test_factors_are_balanced_independent_and_in_range():
    factors = strokes.sample_factors(20_000, seed=0)
    assert np.bincount(factors[:, 0].astype(int)).tolist() == [2000] * 10
    styles = np.bincount(factors[:, INDEX["style"]].astype(int))
    assert len(styles) == strokes.N_STYLES and styles.min() > 0.9 * 20_000 / strokes.N_STYLES
    correlations = np.corrcoef(factors.T) - np.eye(7)
    assert np.abs(correlations).max() < 4 / np.sqrt(20_000)
    assert (factors[:, INDEX["thickness"]] > 0).all() and (factors[:, INDEX["size"]] < 20).all()


def test_thickness_changes_the_ink_and_not_its_place():
    images = one_at_a_time("thickness", [1.2, 2.4, 4.0])
    ink = images.sum(axis=(1, 2))
    assert ink[0] < 0.75 * ink[1] and ink[1] < 0.75 * ink[2]
    assert (images[0] <= images[1]).all() and (images[1] <= images[2]).all()  # a wider pen covers the narrower one


def test_size_is_the_height_in_pixels():
    for size, image in zip((12, 15, 18), one_at_a_time("size", [12, 15, 18]), strict=True):
        top, bottom = extent(image, axis=1)
        assert abs((bottom - top + 1) - (size + 2.4)) <= 1.5  # the path, and half a pen on either side


def test_aspect_is_the_ratio_of_widths():
    widths = [np.subtract(*extent(image, axis=0)[::-1]) + 1 - 2.4 for image in one_at_a_time("aspect", [0.7, 1, 1.4])]
    np.testing.assert_allclose(np.array(widths) / widths[1], [0.7, 1, 1.4], atol=0.12)
    heights = [extent(image, axis=1) for image in one_at_a_time("aspect", [0.7, 1, 1.4])]
    assert heights[0] == heights[1] == heights[2]


@pytest.mark.parametrize("digit", range(10))
def test_slant_leans_the_top_to_the_right_and_keeps_the_height(digit):
    images = one_at_a_time("slant", [-20, 0, 20], digit)
    shear = [-mixed / down for _, down, mixed in map(moments, images)]
    np.testing.assert_allclose(np.diff(shear), np.tan(np.deg2rad(20)), atol=0.08)  # less by the width of the pen
    tops, bottoms = zip(*(extent(image, axis=1) for image in images), strict=True)
    assert np.ptp(tops) <= 1 and np.ptp(bottoms) <= 1


@pytest.mark.parametrize("digit", range(10))
def test_rotation_turns_clockwise_and_keeps_the_shape(digit):
    def tensor(image):
        across, down, mixed = moments(image)
        return np.array([[across, mixed], [mixed, down]])

    upright, turned = (tensor(image) for image in one_at_a_time("rotation", [0, 25], digit))
    c, s = np.cos(np.deg2rad(25)), np.sin(np.deg2rad(25))
    rotation = np.array([[c, -s], [s, c]])  # y points down, so this is clockwise
    np.testing.assert_allclose(rotation @ upright @ rotation.T, turned, atol=0.02 * np.trace(upright))


def test_class_and_style_choose_another_drawing():
    for digit in range(10):
        assert len({image.tobytes() for image in one_at_a_time("style", range(strokes.N_STYLES), digit)}) == 5
    assert len({image.tobytes() for image in one_at_a_time("class", range(10))}) == 10


def test_the_wobble_is_the_same_for_a_row_and_differs_between_rows():
    factors = np.tile(strokes.sample_factors(1, seed=0), (2, 1))
    first, second = strokes.draw(factors, seed=0)
    assert not np.array_equal(first, second)
    factors[1, INDEX["thickness"]] += 1
    np.testing.assert_array_equal(strokes.draw(factors, seed=0)[0], first)


@pytest.mark.parametrize(
    ("factor", "value", "message"),
    [
        ("class", 10, "class must be an integer from 0 to 9, got 10.0 in row 1"),
        ("class", 1.5, "class must be an integer"),
        ("style", -1, "style must be an integer from 0 to 4"),
        ("slant", np.nan, "slant must be finite, got nan in row 1"),
        ("slant", 90, "slant must be between -90 and 90 degrees"),
        ("rotation", np.inf, "rotation must be finite"),
        ("thickness", 0, "thickness must be positive, got 0.0"),
        ("size", -3, "size must be positive"),
        ("aspect", 0, "aspect must be positive"),
    ],
)
def test_factors_that_cannot_be_drawn_are_named(factor, value, message):
    factors = strokes.sample_factors(3, seed=0)
    factors[1, INDEX[factor]] = value
    with pytest.raises(ValueError, match=message):
        strokes.draw(factors, seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: strokes.make(0, seed=0), "n is 0; it must be a whole number of at least 1"),
        (lambda: strokes.make(2.5, seed=0), "n is 2.5; it must be a whole number"),
        (lambda: strokes.make(5, seed=-1), "seed is -1; it must be a whole number from 0"),
        (lambda: strokes.draw(np.zeros((4, 6)), seed=0), r"shape \(n, 7\), got \(4, 6\)"),
        (lambda: strokes.draw(np.zeros(7), seed=0), r"got \(7,\)"),
    ],
)
def test_bad_arguments_are_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
