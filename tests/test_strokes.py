import itertools

import numpy as np
import pytest

from tfae import strokes

INDEX = {name: i for i, name in enumerate(strokes.FACTOR_NAMES)}


def one_at_a_time(name, values, digit=5, seed=7, **fixed):
    """Images of one digit, ink 0 to 1, all factors fixed but one; each row has the same wobble."""
    plain = {"class": digit, "slant": 0, "rotation": 0, "thickness": 2.4, "aspect": 1, "size": 16, "style": 0} | fixed
    images = []
    for value in values:
        factors = np.array([[{**plain, name: value}[factor] for factor in strokes.FACTOR_NAMES]])
        images.append(strokes.draw(factors, seed=seed)[0] / 255)
    return np.array(images)


def box(image, thickness=2.4):
    """Width and height of the pen's path, in fractions of a pixel: a column half grey at the edge counts half."""
    return image.max(axis=0).sum() - thickness, image.max(axis=1).sum() - thickness


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
    ends = {
        "slant": (-18, 38),
        "rotation": (-22, 22),
        "thickness": (1.1, 4.4),
        "aspect": (0.75, 1.25),
        "size": (14, 19),
    }
    for name, (low, high) in ends.items():
        column = factors[:, INDEX[name]]
        assert low <= column.min() and column.max() <= high and np.ptp(column) > 0.7 * (high - low)


OUTER = np.ones((28, 28), dtype=bool)
OUTER[strokes.MARGIN : -strokes.MARGIN, strokes.MARGIN : -strokes.MARGIN] = False


@pytest.mark.slow
def test_the_pen_keeps_its_margin():
    images, _ = strokes.make(20_000, seed=5)
    assert strokes.MARGIN == 2 and not images[:, OUTER].any()


@pytest.mark.parametrize("digit", range(10))
def test_every_corner_of_the_ranges_fits_the_page(digit):
    corners = itertools.product([digit], (-18, 38), (-22, 22), (1.1, 4.4), (0.75, 1.25), (14, 19), range(5))
    assert not strokes.draw(np.array(list(corners)), seed=2)[:, OUTER].any()


def test_the_margin_shifts_a_digit_and_neither_cuts_nor_shrinks_it():
    factors = strokes.sample_factors(2000, seed=0)
    x, y = strokes._pen_path(factors, np.random.default_rng(0).random((2000, strokes._N_UNIFORMS)))
    longer = np.maximum(np.ptp(x, axis=0), np.ptp(y, axis=0))
    np.testing.assert_allclose(longer, factors[:, INDEX["size"]], rtol=1e-12)
    thickness = factors[:, INDEX["thickness"]]
    for path in (x, y):
        assert (path - thickness / 2 > 1).all() and (path + thickness / 2 < 26).all()
        shift = path.mean(axis=0) - 14
        free = np.abs(shift) < 1e-9
        at_margin = np.minimum(path.min(axis=0) - 1, 26 - path.max(axis=0)) - (thickness + strokes._SOFTNESS) / 2
        assert 0.7 < free.mean() < 1
        np.testing.assert_allclose(at_margin[~free], 0, atol=1e-6)  # no further than it must


def test_thickness_changes_the_ink_and_not_its_place():
    images = one_at_a_time("thickness", [1.2, 2.4, 4.0])
    ink = images.sum(axis=(1, 2))
    assert ink[0] < 0.75 * ink[1] and ink[1] < 0.75 * ink[2]
    assert (images[0] <= images[1]).all() and (images[1] <= images[2]).all()  # a wider pen covers the narrower one


def test_thickness_is_the_width_of_the_stroke_in_pixels():
    for thickness, image in zip([1.2, 2.4, 4.0], one_at_a_time("thickness", [1.2, 2.4, 4.0], digit=1), strict=True):
        rows = image.sum(axis=1)  # a straight one is cut across by every row
        assert abs(np.median(rows[rows > 0]) - thickness) < 0.35


@pytest.mark.parametrize(("slant", "rotation"), [(0, 0), (38, 22), (-18, -22), (38, -22)])
@pytest.mark.parametrize("digit", range(10))
def test_size_is_the_longer_side_of_the_box_however_it_leans(digit, slant, rotation):
    for size, image in zip(
        (12, 15, 19), one_at_a_time("size", [12, 15, 19], digit, slant=slant, rotation=rotation), strict=True
    ):
        assert abs(max(box(image)) - size) < 0.35


@pytest.mark.parametrize("digit", [0, *range(2, 10)])  # a straight one has no width to speak of
def test_aspect_multiplies_the_ratio_of_width_to_height(digit):
    sides = [box(image) for image in one_at_a_time("aspect", [0.75, 1, 1.25], digit)]
    ratios = [width / height for width, height in sides]
    np.testing.assert_allclose(np.array(ratios) / ratios[1], [0.75, 1, 1.25], atol=0.05)


@pytest.mark.parametrize("digit", range(10))
def test_slant_leans_the_top_to_the_right(digit):
    shear = [-mixed / down for _, down, mixed in map(moments, one_at_a_time("slant", [-20, 0, 20], digit))]
    np.testing.assert_allclose(np.diff(shear), np.tan(np.deg2rad(20)), atol=0.08)  # less by the width of the pen


@pytest.mark.parametrize("digit", range(10))
def test_rotation_turns_clockwise_and_keeps_the_shape(digit):
    def tensor(image):  # of a digit of any size: a turned one is scaled to keep its box
        across, down, mixed = moments(image)
        return np.array([[across, mixed], [mixed, down]]) / (across + down)

    upright, turned = (tensor(image) for image in one_at_a_time("rotation", [0, 25], digit))
    c, s = np.cos(np.deg2rad(25)), np.sin(np.deg2rad(25))
    rotation = np.array([[c, -s], [s, c]])  # y points down, so this is clockwise
    np.testing.assert_allclose(rotation @ upright @ rotation.T, turned, atol=0.02)


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
        ("size", 23, "size must be at most 23.8 less the thickness, to fit the page, got 23.0 in row 1"),
        ("thickness", 12, "size must be at most 23.8 less the thickness"),
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
