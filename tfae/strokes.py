"""Handwritten-style digits drawn from known factors (chapter 00).

Each image is a 28x28 grey-scale digit in the manner of MNIST, drawn from a handful of numbers that are kept:
which digit, in which style, how slanted, how rotated, how thick, how wide, how tall.  What an autoencoder's
code has learned can therefore be checked against the truth.

A digit is made in three steps:

1. **Glyph.**  A hand-made table holds, for every class and style, the control points of a few pen strokes.
2. **Path.**  The hand wobbles the control points, a Catmull-Rom spline joins them, and the factors place the
   resulting curve on the page.
3. **Ink.**  The pen is a disc dragged along the path: a pixel is black if the path passes near enough to it.

The images are the same, bit for bit, on every machine.  So whatever reaches a pixel uses only operations that
IEEE 754 rounds correctly (``+ - * / sqrt``, minimum, maximum, rounding) in a fixed order, and the only random
numbers are the uniform ones of PCG64.
"""

from collections.abc import Sequence

import numpy as np

from tfae.checks import check_seed, check_size

IMAGE_SIZE = 28
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
        "0,30 16,14 28,0* 27,50 26,100",
        "0,22 16,12 28,0* 28,50 28,97 + 0,100 30,98 58,99",
    ),
    2: (  # wide foot, big loop, narrow, curled head and falling foot, round head and steep loop
        "14,22 26,4 46,0 60,14 54,38 32,66 2,92* 34,88 66,88 94,92",
        "10,28 26,4 50,2 58,24 44,56 22,90 4,94 0,76 18,64 42,80 78,98",
        "4,18 20,0 40,4 42,26 26,60 4,92* 30,90 60,98",
        "26,36 14,22 26,4 50,0 62,18 52,46 28,72 0,86* 36,82 64,92 92,100",
        "8,26 22,2 48,2 56,22 44,52 26,84 8,98 0,84 10,70 28,72 48,88 68,94",
    ),
    3: (  # round, flat top, loop at the waist, soft waist, narrow
        "2,14 20,1 44,2 54,18 44,38 22,46* 48,52 62,70 54,92 28,100 2,90",
        "0,4 34,2 64,0* 44,20 28,36* 52,44 64,64 54,88 24,100 -10,90",
        "0,10 26,0 52,8 50,30 30,46 22,44 30,42 52,52 62,74 46,96 20,100 0,90",
        "0,16 24,0 52,6 58,26 34,46 52,56 54,78 32,98 4,92",
        "14,10 28,0 44,10 42,28 28,43* 48,55 52,76 34,98 0,96",
    ),
    4: (  # open box, closed triangle, rounded cup, crossed low, pen kept down
        "8,0 4,25 0,50* 30,52 65,48 + 55,2 52,50 48,100",
        "45,0 25,30 0,62* 35,63 72,62 + 45,0 46,50 46,100",
        "4,4 0,28 8,45 30,46 52,34 + 58,0 55,50 50,100",
        "30,0 16,28 0,58* 35,58 78,54 + 56,26 50,60 44,100",
        "6,0 2,25 4,46 26,52 50,46 62,6* 56,50 50,100",
    ),
    5: (  # hat joined, hat apart, S, flying hat, slanted hat joined
        "65,2 38,3 14,4* 10,24 8,44* 30,38 54,48 60,70 46,94 20,100 0,84",
        "18,6 12,26 6,46* 30,40 52,50 58,72 42,97 14,97 0,80 + 16,4 44,6 76,0",
        "60,4 35,2 14,12 10,32 30,46 52,60 54,82 34,99 0,94",
        "28,10 23,28 18,44 40,44 52,60 44,84 22,100 0,96 + 26,12 52,6 84,0",
        "70,0 46,5 26,6* 16,26 12,40 36,46 50,62 44,86 22,100 0,92",
    ),
    6: (  # curved back, straight back, curled top, wide loop, tall loop
        "50,0 26,14 8,42 0,72 14,97 38,98 54,80 46,62 26,60 6,76",
        "36,0 20,26 6,56 2,84 20,100 42,90 44,70 26,64 6,80",
        "62,10 40,0 16,14 2,45 2,78 22,100 48,94 58,72 44,52 20,56 4,72",
        "40,0 14,30 0,66 10,94 38,98 70,80 66,60 40,66 14,88",
        "28,0 10,30 0,66 8,94 30,100 50,84 48,60 28,52 8,66",
    ),
    7: (  # plain, barred, curved, with a long serif, wavy hat
        "0,4 34,4 66,0* 36,45 12,100",
        "0,4 32,3 60,0* 42,45 24,100 + 12,50 38,48 64,46",
        "0,14 18,2 40,0 54,12 52,40 42,72 36,100",
        "0,36 6,6* 30,8 58,2* 50,40 44,70 42,100",
        "0,30 12,6 34,10 60,0* 46,36 32,68 24,100",
    ),
    8: (  # S closed, two circles, S with crossed ends, small head, big head
        "52,10 28,0 6,12 14,34 38,52 52,74 36,98 10,94 2,74 20,54 42,34 52,12",
        "28,48 8,36 8,10 30,0 50,12 48,36 28,48 6,62 0,84 28,100 54,86 50,62 28,48",
        "60,22 44,4 18,2 4,18 16,38 36,54 40,76 26,98 8,92 8,72 30,50 76,0",
        "44,8 26,0 14,12 22,32 46,54 54,78 34,100 8,96 2,74 20,52 38,32 48,6",
        "60,10 28,0 0,14 10,36 32,56 36,80 22,100 8,86 18,64 40,44 68,22 56,6",
    ),
    9: (  # straight tail, curved tail, hooked tail, open head, big head
        "56,10 34,0 8,12 0,32 16,48 42,40 56,12* 53,50 50,100",
        "48,8 26,0 5,13 5,32 24,42 44,29 52,8* 52,46 42,80 26,100",
        "52,10 28,0 4,14 4,38 26,48 48,34 54,8* 56,50 50,85 28,100 4,92",
        "68,4 42,0 10,8 2,28 16,42 40,34 54,18 48,55 38,100",
        "60,16 36,0 6,14 0,42 16,62 42,54 60,18* 64,60 64,100",
    ),
}
_N_CLASSES = len(_GLYPHS)
N_STYLES = len(_GLYPHS[0])

# Where `sample_factors` draws the continuous factors from: (low, high, how many uniforms are averaged).
# One uniform is flat, three are close to a bell.  MNIST's writers lean to the right, hence the slant.
_RANGES = {
    "slant": (-25.0, 40.0, 3),
    "rotation": (-30.0, 30.0, 3),
    "thickness": (1.1, 4.5, 2),
    "aspect": (0.75, 1.25, 1),
    "size": (13.5, 18.0, 1),
}

_N_POINTS = 128  # pen positions along a path: the longest are some 70 pixels, so about half a pixel apart
_CHUNK = 64  # images rendered together: few enough for their arrays to stay in the processor's cache
_SOFTNESS = 1.2  # width of the grey edge of a stroke, in pixels

# How far the hand strays from the table.  Lengths are in units of the digit's height.
_JITTER = 0.07  # of each control point by itself
_OVERRUN = 0.45  # of a stroke's end along its last piece, as a fraction of that piece
_BEND = 1.0  # of the digit as a whole: the coefficients of quadratic and cubic bends
_ROUNDNESS = (0.3, 0.75)  # from nearly straight lines between the points to bulging curves; 0.5 is usual
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
_N_BELLS = 3 * _K + 2 * _N_BENDS  # overrun and jitter in x and y of each point; bends in x and y
_N_UNIFORMS = 2 * _N_BELLS + 1  # two uniforms make a bell; one is for the roundness


def _bend(x: np.ndarray, y: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return how far the bends shift each point.  No bend is a slant, a rotation or a scaling."""
    shapes = (x * x, x * y, y * y, y * (y * y - 0.15))  # -0.15 y is the straight part of a cubic, removed
    return _BEND * sum(s * shape for s, shape in zip(strength, shapes, strict=True))


def _pen_path(factors: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the pen, each (_N_POINTS, n), relative to their mean, which is the digit's centre.

    `factors` is (n, 7) and `uniforms` (n, _N_UNIFORMS): every image spends the same random numbers whatever
    its factors, so changing a factor leaves the wobble as it was.
    """
    digit, slant, rotation, _, aspect, size, style = factors.T.astype(np.float64)
    glyph = (digit * N_STYLES + style).astype(int)

    # The wobble, on control points: one column for each image from here on.
    bells = uniforms.T[:_N_BELLS] + uniforms.T[_N_BELLS:-1] - 1
    overrun, jitter_x, jitter_y, bend_x, bend_y = np.split(bells, np.cumsum([_K, _K, _K, _N_BENDS]))
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

    # The page.  cumsum adds in a fixed order, which sum does not promise; and since the last digits of tan,
    # cos and sin differ between machines, they are rounded off.
    x, y = (c - np.cumsum(c, axis=0)[-1] / _N_POINTS for c in (x, y))
    scale = size / (y.max(axis=0) - y.min(axis=0))
    x, y = x * (scale * aspect), y * scale
    tan, cos, sin = (
        np.round(function(np.deg2rad(angle)), 6)
        for function, angle in ((np.tan, slant), (np.cos, rotation), (np.sin, rotation))
    )
    x = x - tan * y  # y points down: a positive slant leans the top to the right
    return cos * x - sin * y, sin * x + cos * y  # a positive rotation turns clockwise


def _ink(x: np.ndarray, y: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Return the images, (n, 28, 28) uint8, of a round pen as wide as `thickness` dragged along the path."""
    # Pixel 14 is the centre: that is where MNIST puts the centre of mass.
    pixel = np.arange(IMAGE_SIZE, dtype=np.float32)[:, None] - np.float32(IMAGE_SIZE / 2)
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
    checks = [(name, np.isfinite(c), "finite") for name, c in zip(FACTOR_NAMES, factors.T, strict=True)]
    checks += [
        ("class", np.isin(digit, np.arange(_N_CLASSES)), f"an integer from 0 to {_N_CLASSES - 1}"),
        ("style", np.isin(style, np.arange(N_STYLES)), f"an integer from 0 to {N_STYLES - 1}"),
        ("slant", np.abs(slant) < 90, "between -90 and 90 degrees"),
        *((n, c > 0, "positive") for n, c in zip(("thickness", "aspect", "size"), positive, strict=True)),
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
    aspect (0.75 to 1.25) and size (13.5 to 18).  The others favour the middle of their range: slant (-25 to
    40), rotation (-30 to 30) and thickness (1.1 to 4.5).

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
        width to height relative to the glyph's own; size, the height in pixels of the pen's path before it is
        rotated; style 0 to ``N_STYLES - 1``, the way of writing the digit (it has no meaning across classes).

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
        White (255) on black (0), the mean of the pen's path at pixel (14, 14) as in MNIST.

    Raises
    ------
    ValueError
        If `factors` has another shape, or holds a number that is not finite, an unknown class or style, a
        slant of 90 degrees or more, or a thickness, aspect or size that is not positive; or if `seed` is not
        a whole number or out of range.
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
