"""Chapter 08, attribution: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Reading, Write

RNG = np.random.default_rng(8)

# --- 08.1 where no error is counted ----------------------------------------------------------------------------------

upper_half = Prediction(
    "08.1",
    [
        (0.02, "Nothing, or hardly anything, in the half where no error is counted. Run the cell."),
        (0.15, "A little: something leaks over. By which way, do you think? Run the cell."),
        (0.4, "A good part of it. So the upper half has a say in how the lower one is drawn? Run the cell."),
        (1.0, "As much as in the lower half, or more: the place of the error would hardly count. Run the cell."),
    ],
    outside="a share is asked for, from 0 to 1.",
)

# --- 08.2 the completeness gap ---------------------------------------------------------------------------------------


def _missing(values, at_image, at_baseline):
    return values.sum(axis=(1, 2)) - (at_image - at_baseline)


_values = RNG.normal(size=(3, 4, 5))
_at_image, _at_baseline = np.array([5.0, -2.0, 0.7]), np.array([1.5, 1.0, 2.2])
gap_of = Write(
    "08.2",
    lambda values, at_image, at_baseline: np.abs(_missing(values, at_image, at_baseline) / (at_image - at_baseline)),
    {
        "that is what is missing, in the unit of the target. Relative to what is the gap?": lambda v, i, b: np.abs(
            _missing(v, i, b)
        ),
        "the gap has a sign: too much and too little would cancel in a mean.": lambda v, i, b: (
            _missing(v, i, b) / (i - b)
        ),
        "you divided by the sum of the map. A map whose sum is nearly 0 would look terrible, whatever is asked of "
        "it.": lambda v, i, b: np.abs(_missing(v, i, b) / v.sum(axis=(1, 2))),
        "you divided by the target at the image. The map should explain the *difference* from the baseline.": (
            lambda v, i, b: np.abs(_missing(v, i, b) / i)
        ),
        "the baseline's own value is forgotten: a blank page has one too.": lambda v, i, b: np.abs(
            (v.sum(axis=(1, 2)) - i) / i
        ),
        "you took absolute values before adding up: what lowers the target has to count against what raises it.": (
            lambda v, i, b: np.abs(_missing(np.abs(v), i, b) / (i - b))
        ),
        "one number for the whole batch, in which the images make up for one another: each has its own gap.": (
            lambda v, i, b: np.abs(_missing(v, i, b).sum() / (i - b).sum())
        ),
    },
    inputs=[(_values, _at_image, _at_baseline), (_values[:2, :3], _at_baseline[:2], _at_image[:2])],
    done="0 if the map accounts for all that the target changed, 1 if it misses by as much as there was.",
    minutes=3,
)

# --- 08.3 break it: complete, and about nothing ----------------------------------------------------------------------

_ink = np.zeros((28, 28), dtype=bool)
_ink[4:24, 8:20] = True


def _blind(values):
    values = np.asarray(values, dtype=float).reshape(28, 28)
    share = np.abs(values[~_ink]).sum() / np.abs(values).sum()
    said = f"the map adds up to {values.sum():.2f}, and {share:.0%} of it lies where there is no ink"
    return share, f"{said}." + (" Completeness alone promises no more than this." if share > 0.999 else "")


blind = Challenge(
    "08.3",
    _blind,
    {
        "a map of one number for each of 28 × 28 pixels is asked for.": (
            lambda values: np.size(values) != 784,
            (np.ones(28),),
        ),
        "a map of zeros explains nothing at all, and does not add up to the 10 either.": (
            lambda values: not np.any(values),
            (0 * _ink,),
        ),
        "this map is not complete. What should its values add up to?": (
            lambda values: abs(np.sum(values) - 10) > 0.05,
            (9 * _ink / np.sum(_ink),),
        ),
        "complete, and it lies where the ink is: that might even be a good map. Move it to where nothing is.": (
            (lambda values: np.all(np.reshape(values, (28, 28))[~_ink] == 0), (10 * _ink / np.sum(_ink),))
        ),
    },
    passes=0.999,
    enough=(10 * ~_ink / np.sum(~_ink),),
    not_enough=(5 * _ink / np.sum(_ink) + 5 * ~_ink / np.sum(~_ink),),
    stars=1,
    minutes=3,
)

# --- 08.4 how many steps are enough? ---------------------------------------------------------------------------------


def _first(steps, gaps, tolerance=0.005):
    enough = np.abs(gaps) <= tolerance
    return steps[np.argmax(enough)] if enough.any() else steps[-1]


_steps = np.array([16, 32, 64, 128, 256])
steps_needed = Write(
    "08.4",
    _first,
    {
        "you took the smallest gap of all. Doubling stops as soon as a gap is small *enough*.": lambda steps, gaps: (
            steps[np.argmin(np.abs(gaps))]
        ),
        "a gap of -3 % is not below the tolerance: too little is missing as much as too much.": lambda steps, gaps: (
            steps[np.argmax(gaps <= 0.005)] if (gaps <= 0.005).any() else steps[-1]
        ),
        "that is the place in the list, and the number of steps is asked for.": lambda steps, gaps: int(
            np.argmax(np.abs(gaps) <= 0.005)
        ),
        "one doubling too many: with the number before, the gap was small enough.": lambda steps, gaps: steps[
            min(np.argmax(np.abs(gaps) <= 0.005) + 1, len(steps) - 1)
        ],
        "if no gap is small enough, `np.argmax` says 0. What is the best that you have then?": lambda steps, gaps: (
            steps[np.argmax(np.abs(gaps) <= 0.005)]
        ),
        "you stopped at 5 %. The tolerance of the page is 0.5 %.": lambda steps, gaps: _first(steps, gaps, 0.05),
    },
    inputs=[
        (_steps, np.array([0.4, 0.03, 0.004, 0.0002, 0.001])),
        (_steps, np.array([-0.03, -0.2, -0.001, 0.002, 0.0])),
        (_steps[:3], np.array([0.9, 0.07, 0.02])),
    ],
    done="each image gets as many steps as it needs, and what is left after the last is reported.",
    minutes=5,
)

# --- 08.5 find the bug: two kinds of pixels --------------------------------------------------------------------------


def _scaled(raw):
    return raw / 127.5 - 1


def _line(times, inside=_scaled, total=np.mean):
    def attribute(slope, raw, blank):
        parts = (np.arange(64) + 0.5) / 64
        slopes = total([slope(inside(blank + a * (raw - blank))) for a in parts], axis=0)
        return slopes * times(raw, blank)

    return attribute


_weights = RNG.normal(size=6)


def _slope(x):
    return _weights * (1 + x**2)


attribute_raw = Bug(
    "08.5",
    _line(lambda raw, blank: raw - blank),
    _line(lambda raw, blank: _scaled(raw) - _scaled(blank)),
    {
        "you divided by 255. How long is the range that the model takes, from end to end?": _line(
            lambda raw, blank: (raw - blank) / 255
        ),
        "the baseline is gone: a blank page is -1 to this model and not 0, so it has to be subtracted.": _line(
            lambda raw, blank: _scaled(raw)
        ),
        "you preprocessed the difference. Its constant cancels when two images are subtracted, and you subtracted it "
        "once more.": _line(lambda raw, blank: _scaled(raw - blank)),
        "now the model is asked about raw pixels, which it has never seen. The gradients were taken at the right "
        "places: what were they multiplied by?": _line(lambda raw, blank: raw - blank, inside=lambda raw: raw),
        "the difference is right, and the slopes are added up instead of averaged.": _line(
            lambda raw, blank: _scaled(raw) - _scaled(blank), total=np.sum
        ),
    },
    inputs=[
        (_slope, 255 * RNG.random((2, 6)), np.zeros((2, 6))),
        (_slope, 255 * RNG.random((1, 6)), np.full((1, 6), 40.0)),
    ],
    done="what was differentiated and what is multiplied are the same input now.",
    stars=2,
    minutes=10,
)

# --- 08.6 why a 3 and not an 8? --------------------------------------------------------------------------------------


def _only_start(image, start):
    return (image < 0.2) & (start > 0.5)


_v = RNG.normal(size=(6, 6)) + 0.3
_image, _start = RNG.random((6, 6)), RNG.random((6, 6))
share_on_missing = Write(
    "08.6",
    lambda values, image, start: values[_only_start(image, start)].sum() / values.sum(),
    {
        "that is the ink of the 3 that the 8 does not have: the other way round.": lambda values, image, start: (
            values[_only_start(start, image)].sum() / values.sum()
        ),
        "that is all the ink of the 8. The strokes that both have are evidence for neither.": (
            lambda values, image, start: values[start > 0.5].sum() / values.sum()
        ),
        "that is all the paper of the 3. Most of it is paper in the 8 too.": lambda values, image, start: (
            values[image < 0.2].sum() / values.sum()
        ),
        "you took absolute values. A part of a *difference* is asked for, and values against it have to count "
        "against it.": lambda values, image, start: (
            np.abs(values)[_only_start(image, start)].sum() / np.abs(values).sum()
        ),
        "that is a share of the pixels, not of the difference.": lambda values, image, start: np.mean(
            _only_start(image, start)
        ),
        "that is an amount. Divide it by the whole difference.": lambda values, image, start: values[
            _only_start(image, start)
        ].sum(),
        "you compared means. A share of a sum is asked for.": lambda values, image, start: (
            values[_only_start(image, start)].mean() / values.mean()
        ),
    },
    inputs=[(_v, _image, _start), (_v + 0.5, _start, _image)],
    done='a question of the form "why this and not that" can put evidence on empty paper.',
    stars=2,
    minutes=10,
)

# --- 08.7 two maps of a layer ----------------------------------------------------------------------------------------


def _grad_cam(activation, slope):
    return np.sum(slope.mean(axis=(1, 2), keepdims=True) * activation, axis=-1)


def _hires_cam(activation, slope):
    return np.sum(slope * activation, axis=-1)


_activation, _slopes = RNG.random((2, 3, 3, 4)), RNG.normal(size=(2, 3, 3, 4))
cams = Write(
    "08.7",
    lambda activation, slope: (_grad_cam(activation, slope), _hires_cam(activation, slope)),
    {
        "the two are swapped: which of them averages the derivatives first?": lambda activation, slope: (
            _hires_cam(activation, slope),
            _grad_cam(activation, slope),
        ),
        "you averaged the activations over the places as well: then the map is flat. Only the derivatives are "
        "averaged, to one weight a channel.": lambda activation, slope: (
            _grad_cam(np.broadcast_to(activation.mean(axis=(1, 2), keepdims=True), activation.shape), slope),
            _hires_cam(activation, slope),
        ),
        "the channels are averaged, and they should be added: the sum over places has to give the target.": (
            lambda activation, slope: (_grad_cam(activation, slope) / 4, _hires_cam(activation, slope) / 4)
        ),
        "you cut off below zero. That comes last, for the picture: here the sums are still wanted.": (
            lambda activation, slope: (
                np.maximum(_grad_cam(activation, slope), 0),
                np.maximum(_hires_cam(activation, slope), 0),
            )
        ),
        "the weights are means over the channels at each place. Grad-CAM's are means over the places, one for each "
        "channel.": lambda activation, slope: (
            np.sum(slope.mean(axis=-1, keepdims=True) * activation, axis=-1),
            _hires_cam(activation, slope),
        ),
        "you averaged over the images as well: each has its own derivatives.": lambda activation, slope: (
            np.sum(slope.mean(axis=(0, 1, 2), keepdims=True) * activation, axis=-1),
            _hires_cam(activation, slope),
        ),
    },
    inputs=[(_activation, _slopes), (_activation[:, :2], _slopes[:, :2])],
    done="they agree wherever all places of a channel have the same derivative. Which layer sees to that?",
    stars=2,
    minutes=15,
)

# --- 08.8 does linearity hold? ---------------------------------------------------------------------------------------

_f, _g = RNG.normal(size=(2, 3, 4, 4))
combined = Write(
    "08.8",
    lambda map_f, map_g: 2 * map_f - 3 * map_g,
    {
        "you gave the 5 to every pixel. At the image and at the baseline the target has the same 5 more: what does "
        "it do to their difference?": lambda map_f, map_g: 2 * map_f - 3 * map_g + 5,
        "you shared the 5 out among the pixels. At the image and at the baseline it is the same: is there anything "
        "to explain?": lambda map_f, map_g: 2 * map_f - 3 * map_g + 5 / map_f[0].size,
        "the factors are missing: a target that is twice as large changes twice as much.": lambda map_f, map_g: (
            map_f - map_g
        ),
        "the sign of the second is lost: what raises g lowers the target.": lambda map_f, map_g: 2 * map_f + 3 * map_g,
        "you averaged the two. The map of a sum is the sum of the maps.": lambda map_f, map_g: (
            (2 * map_f - 3 * map_g) / 2
        ),
    },
    inputs=[(_f, _g), (_g[:1], _f[:1])],
    done="gradients are linear in the target, and so is their mean along a line.",
    stars=2,
    minutes=10,
)

# --- 08.9 missing parts, again ---------------------------------------------------------------------------------------

best_baseline = Reading(
    "08.9",
    [
        "outside the hole the image equals this baseline, and the difference is a factor of every value",
        "so all attribution lies inside, whatever the network does: an untrained one would score 1.00 as well",
        "the baseline knew the answer, so the score says nothing about the explanation",
        "nobody has the undamaged image of a damaged one; the model's own copy is made by the model under suspicion",
    ],
    stars=3,
    minutes=20,
)
