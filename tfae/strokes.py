"""Handwritten-style digits drawn from known factors (chapter 00).

Each image is a 28x28 grey-scale digit in the manner of MNIST, drawn from a handful of numbers that are kept:
which digit, in which style, how slanted, how rotated, how thick, how wide, how large.  What an autoencoder's
code has learned can therefore be checked against the truth.

A digit is made in three steps:

1. **Glyph.**  A hand-made table holds, for every class and style, the control points of a few pen strokes.
2. **Path.**  The hand wobbles the control points, a Catmull-Rom spline joins them, and the factors place the
   resulting curve on the page, scaled and placed so that the margin stays blank.
3. **Ink.**  The pen is a disc dragged along the path: a pixel is black if the path passes near enough to it.

The images are the same, bit for bit, on every machine.  So whatever reaches a pixel uses only operations that
IEEE 754 rounds correctly (``+ - * / sqrt``, minimum, maximum, rounding) in a fixed order, and the only random
numbers are the uniform ones of PCG64.
"""

from collections.abc import Sequence

import numpy as np

from tfae.checks import check_seed, check_size

IMAGE_SIZE = 28
MARGIN = 2  # pixels along every side of the page that stay blank
FACTOR_NAMES = ("class", "slant", "rotation", "thickness", "aspect", "size", "style")

# One line per style.  A point is "x,y" in hundredths of the digit's height, x to the right and y down.
# The pen draws a smooth curve through the points, turns sharply at a point marked "*" and lifts at "+".
_GLYPHS = {
    0: (  # oval, narrow, closed with an overlap, closed inside, circle
        "40,0 14,12 0,52 12,88 36,100 62,84 71,46 60,12 36,0",
        "30,0 10,14 0,55 10,92 30,99 48,78 52,40 42,8 27,1",
        "62,12 42,0 14,14 0,58 16,95 46,97 70,68 70,22 48,4 25,12",
        "30,5 8,24 0,60 16,95 44,98 68,72 70,32 50,8 22,16",
        "44,0 12,14 0,52 14,88 46,100 78,84 88,46 74,12 40,0",
    ),
    1: (  # straight, bowed, leaning, with a flag, with a flag and a foot
        "0,0 0,50 0,100",
        "0,0 6,50 0,100",
        "12,0 6,50 0,100",
        "12,19 20,10 28,0* 28,50 27,100",
        "11,19 20,10 29,0* 29,50 29,98 + 4,100 29,99 54,99",
    ),
    2: (  # wide foot, big loop, small head, curled head and falling foot, round head and steep loop
        "10,22 24,4 44,0 60,14 54,38 32,66 2,94* 30,91 56,92 80,95",
        "10,28 26,4 50,2 58,24 46,54 26,88 7,97 0,80 16,65 42,80 76,97",
        "4,17 21,1 41,5 42,27 25,60 2,93* 28,91 52,93 74,98",
        "22,34 12,20 24,4 48,0 60,18 52,44 28,70 0,90* 28,86 54,92 80,98",
        "4,28 20,4 46,1 59,24 50,51 30,82 10,99 0,85 11,69 31,72 50,88 72,93",
    ),
    3: (  # round, flat top, loop at the waist, soft waist, narrow
        "0,14 19,1 44,2 54,18 44,38 22,46* 48,52 62,70 54,92 26,100 -3,89",
        "2,4 30,2 60,0* 43,20 26,38* 52,44 63,64 54,88 28,100 -4,90",
        "0,10 26,0 52,8 50,30 30,46 22,44 30,42 52,52 62,74 46,96 20,100 0,90",
        "0,16 24,0 52,6 58,26 34,46 52,56 54,78 32,98 4,92",
        "14,10 28,0 44,10 42,28 28,43* 48,55 52,76 34,98 0,96",
    ),
    4: (  # open box, closed triangle, rounded cup, crossed low, pen kept down
        "8,0 4,25 0,50* 30,52 65,48 + 55,2 52,50 48,100",
        "45,0 25,30 0,62* 35,63 72,62 + 45,0 46,50 46,100",
        "6,4 0,28 6,47 30,51 56,44 + 60,0 57,50 52,100",
        "30,0 16,28 0,58* 35,58 78,54 + 56,26 50,60 44,100",
        "6,2 2,25 5,46 26,52 54,44 60,4* 57,50 52,100",
    ),
    5: (  # hat joined, hat apart, soft corner, flying hat, slanted hat joined
        "65,2 38,3 14,4* 10,24 8,44* 30,38 54,48 60,70 46,94 20,100 0,84",
        "16,4 12,26 8,46* 30,40 52,50 58,72 42,97 18,98 2,86 + 15,3 40,4 68,1",
        "60,2 38,2 16,6 11,24 12,42 34,43 54,58 55,82 34,99 4,94",
        "24,6 19,26 14,45* 36,40 54,56 50,82 28,99 4,95 + 23,6 46,4 74,0",
        "66,0 44,4 24,5* 17,26 12,44* 34,42 53,58 50,84 26,100 2,93",
    ),
    6: (  # curved back, straight back, open spiral, wide loop, tall loop
        "50,0 26,14 8,42 1,72 14,97 38,98 55,78 46,57 26,54 5,72",
        "40,0 20,25 6,54 3,81 21,100 45,90 45,68 27,61 7,78",
        "36,0 12,30 0,62 7,90 30,100 56,88 60,67 46,53 31,60 26,79",
        "46,0 17,27 1,64 10,92 38,100 64,84 60,60 38,58 13,80",
        "28,0 10,30 0,66 8,94 30,100 50,84 48,60 28,52 8,66",
    ),
    7: (  # plain, barred, curved, with a serif, wavy hat
        "0,4 34,4 66,0* 36,45 12,100",
        "0,4 32,3 64,0* 44,45 24,100 + 20,51 38,49 60,47",
        "0,8 20,3 44,0 57,8 51,38 41,70 34,100",
        "0,23 4,5* 30,6 60,2* 50,40 42,70 38,100",
        "0,18 12,5 34,8 62,0* 47,36 33,68 24,100",
    ),
    8: (  # S closed, two circles, S with crossed ends, small head, big head
        "52,10 28,0 6,12 14,34 38,52 52,74 36,98 10,94 2,74 20,54 42,34 52,12",
        "28,48 8,36 8,10 30,0 50,12 48,36 28,48 6,62 0,84 28,100 54,86 50,62 28,48",
        "60,21 44,4 18,2 4,18 16,38 36,54 41,76 26,98 8,92 8,72 30,50 54,25 75,3",
        "44,9 27,0 12,12 20,32 46,54 54,78 34,100 8,96 2,74 20,52 39,32 46,7",
        "59,11 30,0 2,14 11,36 34,55 40,79 24,100 6,85 16,63 40,44 65,22 56,6",
    ),
    9: (  # straight tail, curved tail, hooked tail, open head, big head
        "55,11 34,0 8,11 0,34 16,54 42,46 56,13* 54,52 51,100",
        "51,11 28,0 5,13 3,36 22,51 44,38 53,10* 53,48 45,80 28,100",
        "53,11 28,0 4,13 3,38 24,52 46,40 55,10* 57,50 51,84 29,100 5,91",
        "50,1 28,2 6,16 1,37 16,51 40,42 58,10* 55,52 46,100",
        "60,16 36,0 6,14 0,42 16,62 42,54 60,18* 64,60 64,100",
    ),
}
_N_CLASSES = len(_GLYPHS)
N_STYLES = len(_GLYPHS[0])

# Where `sample_factors` draws the continuous factors from: (low, high, how many uniforms are averaged).
# One uniform is flat, two favour the middle.  MNIST's writers lean to the right, hence the slant.
_RANGES = {
    "slant": (-18.0, 38.0, 2),
    "rotation": (-22.0, 22.0, 2),
    "thickness": (1.1, 4.4, 2),
    "aspect": (0.75, 1.25, 1),
    "size": (14.0, 19.0, 1),
}

_N_POINTS = 128  # pen positions along a path: the longest are some 70 pixels, so about half a pixel apart
_CHUNK = 64  # images rendered together: few enough for their arrays to stay in the processor's cache
_SOFTNESS = 1.2  # width of the grey edge of a stroke, in pixels
_ROOM = IMAGE_SIZE + 1 - 2 * MARGIN - _SOFTNESS  # between the margins, for a path and a pen with its grey edge

# How far the hand strays from the table at most: each is flat between minus this and this, for the rare long
# tails of a bell are what makes a digit unreadable.  Lengths are in units of the digit's height.
_JITTER = 0.055  # of each control point by itself
_OVERRUN = 0.34  # of a stroke's end along its last piece, as a fraction of that piece
_BEND = 0.7  # of the digit as a whole: the coefficients of quadratic and cubic bends
_ROUNDNESS = (0.35, 0.75)  # from nearly straight lines between the points to bulging curves; 0.5 is usual
_N_BENDS = 4  # bends in each direction, see `_bend`

_CHORDS = 32  # straight pieces that stand for one piece of a spline when its length is measured


def _read_glyph(line: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of one line of the table, its spline pieces, and each point's neighbour.

    A piece is four point numbers: the two it joins, between the two that give it its direction there.  The
    neighbour of a stroke's end is the point next to it; every other point counts as its own neighbour.
    """
    points: list[list[float]] = []
    pieces: list[tuple[int, int, int, int]] = []
    neighbours: list[int] = []
    for stroke in line.split("+"):
        words = stroke.split()
        first, last = len(points), len(points) + len(words) - 1
        points += [[float(number) / 100 for number in word.rstrip("*").split(",")] for word in words]
        neighbours += [first + 1, *range(first + 1, last), last - 1]
        # The curve knows nothing of what lies beyond a corner, so each corner ends one run of pieces.
        corners = [first + i for i, word in enumerate(words) if word.endswith("*")]
        for start, end in zip([first, *corners], [*corners, last], strict=True):
            pieces += [(max(i - 1, start), i, i + 1, min(i + 2, end)) for i in range(start, end)]
    return np.array(points), np.array(pieces), np.array(neighbours)


def _hermite(t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the four cubic Hermite weights at `t` (0 to 1): of both ends and of the directions there."""
    end = t * t * (3 - 2 * t)
    return 1 - end, end, t * (1 - t) * (1 - t), t * t * (t - 1)


def _spline(
    points: Sequence[np.ndarray], weights: np.ndarray | Sequence[np.ndarray], roundness: float | np.ndarray
) -> np.ndarray:
    """Return one coordinate of a Catmull-Rom spline from its four points and its Hermite weights."""
    before, start, end, after = points
    at_start, at_end, leaving, arriving = weights
    directions = leaving * (end - before) + arriving * (after - start)
    return at_start * start + at_end * end + roundness * directions


def _build_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what the pen needs to know of every glyph; glyph number `class * N_STYLES + style` comes second.

    Returns
    -------
    control : (2, glyphs, K) float64
        x and y of the control points about the middle of their box, zeros up to the longest glyph
    neighbour : (K, glyphs) int
        The point towards which a stroke's end is overrun or cut short, see `_read_glyph`.
    index, weights : (4, glyphs, _N_POINTS)
        Which four control points make each pen position, and the Hermite weights to do it with.
    """
    glyphs = [_read_glyph(line) for styles in _GLYPHS.values() for line in styles]
    k = max(len(points) for points, _, _ in glyphs)
    control = np.zeros((2, len(glyphs), k))
    neighbour = np.tile(np.arange(k), (len(glyphs), 1))
    index = np.zeros((4, len(glyphs), _N_POINTS), dtype=int)
    weights = np.zeros((4, len(glyphs), _N_POINTS))
    for g, (points, pieces, neighbours) in enumerate(glyphs):
        middle = (points.min(axis=0) + points.max(axis=0)) / 2  # bends start from the middle
        control[:, g, : len(points)] = (points - middle).T
        neighbour[g, : len(points)] = neighbours
        # Space the pen positions evenly along the length of the curve, measured chord by chord.
        t = np.arange(_CHORDS + 1)[:, None] / _CHORDS
        x, y = (_spline(points[pieces.T, axis][:, None], _hermite(t), 0.5) for axis in (0, 1))
        dx, dy = np.diff(x, axis=0), np.diff(y, axis=0)
        lengths = np.sqrt(dx * dx + dy * dy).T.ravel()
        ends = np.cumsum(lengths)
        stops = (np.arange(_N_POINTS) + 0.5) / _N_POINTS * ends[-1]
        chord = np.searchsorted(ends, stops)
        left_over = (ends[chord] - stops) / lengths[chord]
        index[:, g] = pieces[chord // _CHORDS].T
        weights[:, g] = _hermite((chord % _CHORDS + 1 - left_over) / _CHORDS)
    return control, neighbour.T, index, weights


_CONTROL, _NEIGHBOUR, _INDEX, _WEIGHTS = _build_tables()
_K = _CONTROL.shape[2]
_N_UNIFORMS = 3 * _K + 2 * _N_BENDS + 1  # overrun and jitter in x and y of each point; bends in x and y; roundness


def _bend(x: np.ndarray, y: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return how far the bends shift each point.  No bend is a slant, a rotation or a scaling."""
    shapes = (x * x, x * y, y * y, y * (y * y - 0.15))  # -0.15 y is the straight part of a cubic, removed
    return _BEND * sum(s * shape for s, shape in zip(strength, shapes, strict=True))


def _pen_path(factors: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the pen on the page, each (_N_POINTS, n), in pixels: the first pixel's middle is 0.

    `factors` is (n, 7) and `uniforms` (n, _N_UNIFORMS): every image spends the same random numbers whatever
    its factors, so changing a factor leaves the wobble as it was.
    """
    digit, slant, rotation, thickness, aspect, size, style = factors.T.astype(np.float64)
    glyph = (digit * N_STYLES + style).astype(int)

    # The wobble, on control points: one column for each image from here on.
    wobble = 2 * uniforms.T[:-1] - 1
    overrun, jitter_x, jitter_y, bend_x, bend_y = np.split(wobble, np.cumsum([_K, _K, _K, _N_BENDS]))
    neighbour = _NEIGHBOUR[:, glyph]
    x, y = (
        c + _OVERRUN * overrun * (c - np.take_along_axis(c, neighbour, axis=0)) + _JITTER * jitter
        for c, jitter in ((_CONTROL[0, glyph].T, jitter_x), (_CONTROL[1, glyph].T, jitter_y))
    )
    x, y = x + _bend(x, y, bend_x), y + _bend(x, y, bend_y)

    # The curve.
    roundness = _ROUNDNESS[0] + (_ROUNDNESS[1] - _ROUNDNESS[0]) * uniforms.T[-1]
    index = _INDEX[:, glyph].transpose(0, 2, 1)
    weights = _WEIGHTS[:, glyph].transpose(0, 2, 1)
    x, y = (_spline([np.take_along_axis(c, i, axis=0) for i in index], weights, roundness) for c in (x, y))

    # The page.  The last digits of tan, cos and sin differ between machines, so they are rounded off.
    tan, cos, sin = (
        np.round(function(np.deg2rad(angle)), 6)
        for function, angle in ((np.tan, slant), (np.cos, rotation), (np.sin, rotation))
    )
    x = aspect * x - tan * y  # y points down: a positive slant leans the top to the right
    x, y = cos * x - sin * y, sin * x + cos * y  # a positive rotation turns clockwise
    scale = size / np.maximum(np.ptp(x, axis=0), np.ptp(y, axis=0))
    return _place(scale * x, thickness), _place(scale * y, thickness)


def _place(position: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Shift the pen's path along one axis: its mean to the page's centre, or as near as the margin lets it."""
    # cumsum adds in a fixed order, which sum does not promise.
    position = position - np.cumsum(position, axis=0)[-1] / _N_POINTS + IMAGE_SIZE / 2
    reach = (thickness + _SOFTNESS) / 2  # how far from the pen there is ink
    first, last = MARGIN - 1 + reach, IMAGE_SIZE - MARGIN - reach
    too_far = np.minimum(position.min(axis=0) - first, 0) + np.maximum(position.max(axis=0) - last, 0)
    return position - too_far


def _ink(x: np.ndarray, y: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Return the images, (n, 28, 28) uint8, of a round pen as wide as `thickness` dragged along the path."""
    pixel = np.arange(IMAGE_SIZE, dtype=np.float32)[:, None]
    dx2, dy2 = (np.square(c.astype(np.float32)[:, None] - pixel) for c in (x, y))
    # The squared distance from every pixel to the nearest pen position; images last, so that the innermost
    # loop runs over neighbouring numbers.
    nearest = np.full((IMAGE_SIZE, IMAGE_SIZE, x.shape[1]), np.inf, dtype=np.float32)
    distance = np.empty_like(nearest)
    for row, column in zip(dy2, dx2, strict=True):
        np.add(row[:, None], column[None], out=distance)
        np.minimum(nearest, distance, out=nearest)
    inside = np.float32(0.5) * thickness.astype(np.float32) - np.sqrt(nearest)
    ink = np.clip(inside / np.float32(_SOFTNESS) + np.float32(0.5), 0, 1)
    return np.round(255 * ink).astype(np.uint8).transpose(2, 0, 1)


def _check_factors(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Return the factors as float32, or say what is wrong with them."""
    factors = np.asarray(factors, dtype=np.float32)
    if factors.ndim != 2 or factors.shape[1] != len(FACTOR_NAMES):
        raise ValueError(f"factors must have the shape (n, {len(FACTOR_NAMES)}), got {factors.shape}")
    digit, slant, _, *positive, style = factors.T
    thickness, _, size = positive
    checks = [(name, np.isfinite(c), "finite") for name, c in zip(FACTOR_NAMES, factors.T, strict=True)]
    checks += [
        ("class", np.isin(digit, np.arange(_N_CLASSES)), f"an integer from 0 to {_N_CLASSES - 1}"),
        ("style", np.isin(style, np.arange(N_STYLES)), f"an integer from 0 to {N_STYLES - 1}"),
        ("slant", np.abs(slant) < 90, "between -90 and 90 degrees"),
        *((n, c > 0, "positive") for n, c in zip(("thickness", "aspect", "size"), positive, strict=True)),
        ("size", thickness + size <= _ROOM, f"at most {_ROOM:.1f} less the thickness, to fit the page"),
    ]
    for name, good, accepted in checks:
        if not good.all():
            i = int(np.argmin(good))
            got = factors[i, FACTOR_NAMES.index(name)]
            raise ValueError(f"{name} must be {accepted}, got {got} in row {i} of factors")
    return factors


def sample_factors(n: int, *, seed: int = 0) -> np.ndarray:
    """Draw the factors of `n` digits, each factor independently of the others.

    Classes are balanced (each occurs n/10 times, to within one) and shuffled.  Styles are uniform, and so are
    aspect (0.75 to 1.25) and size (14 to 19).  The others favour the middle of their range: slant (-18 to
    38), rotation (-22 to 22) and thickness (1.1 to 4.4).

    Parameters
    ----------
    n : int
        Number of digits, at least 1.
    seed : int
        Of the factors.

    Returns
    -------
    ndarray of float32, shape (n, 7)
        One column for each of `FACTOR_NAMES`: class 0 to 9; slant in degrees, positive to the right;
        rotation in degrees, positive clockwise; thickness, the pen's width in pixels; aspect, the ratio of
        width to height relative to the glyph's own, before it is slanted; size, the longer side in pixels of
        the upright box around the pen's path as it stands on the page; style 0 to ``N_STYLES - 1``, the way
        of writing the digit (it has no meaning across classes).

    Raises
    ------
    ValueError
        If `n` or `seed` is not a whole number or out of range.
    """
    check_size(n, "n")
    check_seed(seed)
    rng = np.random.default_rng([seed, 0])
    columns = [(np.arange(n) % _N_CLASSES)[np.argsort(rng.random(n), kind="stable")]]
    for low, high, count in _RANGES.values():
        mean = np.cumsum(rng.random((count, n)), axis=0)[-1] / count
        columns.append(low + (high - low) * mean)
    columns.append(np.floor(rng.random(n) * N_STYLES))
    return np.stack(columns, axis=1).astype(np.float32)


def draw(factors: Sequence[Sequence[float]] | np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Draw one digit for each row of factors.

    Parameters
    ----------
    factors : array, shape (n, 7)
        As from `sample_factors`.  Slant, rotation, thickness, aspect and size may lie outside the
        ranges they are sampled from.
    seed : int
        Of the hand's wobble.  The wobble depends on the seed and the row number alone: the
        same row redrawn with one factor changed differs in that factor only.

    Returns
    -------
    ndarray of uint8, shape (n, 28, 28)
        White (255) on black (0).  The mean of the pen's path is at pixel (14, 14), where MNIST puts the centre
        of mass, or as near to it as leaves `MARGIN` pixels blank along every side.

    Raises
    ------
    ValueError
        If `factors` has another shape, or holds a number that is not finite, an unknown class or style, a
        slant of 90 degrees or more, a thickness, aspect or size that is not positive, or a size and thickness
        that do not fit the page together; or if `seed` is not a whole number or out of range.
    """
    factors = _check_factors(factors)
    check_seed(seed)
    rng = np.random.default_rng([seed, 1])
    images = np.empty((len(factors), IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for start in range(0, len(factors), _CHUNK):
        rows = slice(start, start + _CHUNK)
        uniforms = rng.random((len(factors[rows]), _N_UNIFORMS))
        x, y = _pen_path(factors[rows], uniforms)
        images[rows] = _ink(x, y, factors[rows, FACTOR_NAMES.index("thickness")])
    return images


def make(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` images, (n, 28, 28) uint8, and their factors, (n, 7) float32, both from one seed.

    See `draw` and `sample_factors`, also for what is raised.
    """
    factors = sample_factors(n, seed=seed)
    return draw(factors, seed=seed), factors
