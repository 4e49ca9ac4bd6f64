"""Chapter 00, start here: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Exploration, Prediction, Write

RNG = np.random.default_rng(0)

# --- 00.1 how much of a digit survives two numbers? ------------------------------------------------------------------

kept = Prediction(
    "00.1",
    [
        (0.1, "Hardly anything, you say. Remember the row of drawings: most could be read."),
        (0.5, "Less than half. Keep your number, and run the next cell."),
        (0.8, "More than half. Two numbers for 784 would be a good bargain: run the next cell."),
        (1.0, "Nearly everything. Then the drawings above should hardly differ from the images. Run the next cell."),
    ],
    outside="a share lies between 0 and 1: one third is 0.33.",
)

# --- 00.2 the score of a prediction ----------------------------------------------------------------------------------

score = Write(
    "00.2",
    lambda predicted, happened: 1 - np.sum((happened - predicted) ** 2) / np.sum(happened**2),
    {
        "that is the share of what was missed: 0 for a perfect prediction. The score should be 1 there.": (
            lambda predicted, happened: np.sum((happened - predicted) ** 2) / np.sum(happened**2)
        ),
        "you compare with the *average* move. Here the rival says that nothing moves, so its errors are the moves "
        "themselves.": lambda predicted, happened: (
            1 - np.sum((happened - predicted) ** 2) / np.sum((happened - happened.mean()) ** 2)
        ),
        "you divide by what was predicted. An explanation that promises much would then look good: divide by what "
        "happened.": lambda predicted, happened: 1 - np.sum((happened - predicted) ** 2) / np.sum(predicted**2),
        "that is the squared correlation. It is blind to scale: moves predicted ten times too large would get the "
        "same score.": lambda predicted, happened: np.corrcoef(predicted, happened)[0, 1] ** 2,
        "the differences are not squared: plus and minus cancel, or the sizes are added instead.": (
            lambda predicted, happened: 1 - np.sum(np.abs(happened - predicted)) / np.sum(np.abs(happened))
        ),
    },
    inputs=[(np.array([1.0, 2, 3]), np.array([2.0, 2, 5])), (RNG.normal(size=6), RNG.normal(size=6))],
    done="1 for a perfect prediction, 0 for one that is no better than 'nothing moves', and below 0 for a worse one.",
    minutes=5,
)

# --- 00.3 a fair rival for a longer code -----------------------------------------------------------------------------


def _pca(train, test, k, mean_of=None, centre=True, total=np.mean, judged=None):
    """Return PCA's error, with one step changed."""
    mean = (train if mean_of is None else mean_of).mean(axis=0) if centre else 0
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:k]
    x = (test if judged is None else judged) - mean
    return total((x - x @ axes.T @ axes) ** 2)


pca_error = Write(
    "00.3",
    _pca,
    {
        "you fitted PCA to the test images. It has then seen what it is judged on; the network has not.": (
            lambda train, test, k: _pca(test, test, k)
        ),
        "that is the error on the images PCA was fitted to. Judge it where the network is judged: on images that "
        "took no part.": lambda train, test, k: _pca(train, test, k, judged=train),
        "that is a sum over pixels or images; the network's error is a mean over all of them.": (
            lambda train, test, k: _pca(train, test, k, total=np.sum)
        ),
        "that is the error of one component more than asked for.": lambda train, test, k: _pca(train, test, k + 1),
        "without the average image: PCA starts from it and adds its k pictures.": (
            lambda train, test, k: _pca(train, test, k, centre=False)
        ),
        "that is what PCA's *code* holds, not what its copy misses: turn the code into images again.": (
            lambda train, test, k: np.mean(
                ((test - train.mean(0)) @ np.linalg.svd(train - train.mean(0))[2][:k].T) ** 2
            )
        ),
    },
    inputs=[(2 + RNG.normal(size=(9, 5)), 2 + RNG.normal(size=(4, 5)), 2), (RNG.random((8, 4)), RNG.random((5, 4)), 1)],
    done="fitted on one half, judged on the other, with as many numbers as the network has: that is a fair rival.",
    minutes=8,
)

# --- 00.4 another start ----------------------------------------------------------------------------------------------

another_start = Exploration(
    "00.4",
    [
        "the error and the vote of the neighbours hardly change",
        "the places of the digits change completely",
        "so what was learned is steadier than how it is written down: a place on the map means nothing by itself",
        "two starts are an anecdote: more would show how much the numbers vary",
    ],
)

# --- 00.5 a bigger bite ----------------------------------------------------------------------------------------------


def _erase(image, row, column, half, end=1, top=max, ink=0.0):
    image = image.copy()
    image[top(row - half, 0) : row + half + end, top(column - half, 0) : column + half + end] = ink
    return image


_picture = RNG.random((7, 8, 1)) + 0.1
erase = Write(
    "00.5",
    _erase,
    {
        "your window is one pixel short below and to the right: the end of a slice is not included.": (
            lambda image, row, column, half: _erase(image, row, column, half, end=0)
        ),
        "near the border your window vanishes: a slice that begins at a negative number counts from the other "
        "end.": lambda image, row, column, half: _erase(image, row, column, half, top=lambda start, _: start),
        "you filled the window with ink: 1 is ink here, and 0 is paper.": lambda image, row, column, half: _erase(
            image, row, column, half, ink=1.0
        ),
        "you kept the window and erased the rest.": lambda image, row, column, half: (
            image - _erase(image, row, column, half)
        ),
        "row and column are swapped: the first axis of an image runs downwards.": lambda image, row, column, half: (
            _erase(image, column, row, half)
        ),
    },
    inputs=[(_picture, 3, 4, 1), (_picture, 0, 5, 2), (_picture, 5, 2, 0)],
    done="try it with half = 0, 1 and 2, and guess first: will the explanation do better or worse with a bigger bite?",
    stars=2,
    minutes=5,
)

# --- 00.6 find the bug: a gradient at one scale, an input at another -------------------------------------------------

contribution = Bug(
    "00.6",
    lambda gradient, pixels: gradient * pixels,
    lambda gradient, pixels: gradient * pixels / 255,
    {
        "twice: now the claims are 255 times too small.": lambda gradient, pixels: gradient * pixels / 255**2,
        "you stretched each image to its own darkest pixel. The encoder reads pixels divided by 255, whatever the "
        "image.": lambda gradient, pixels: gradient * pixels / pixels.max(),
        "the other way round: now the claims are even larger.": lambda gradient, pixels: gradient * pixels * 255,
        "you divided by the number of pixels: what has to agree is the scale of the ink.": lambda gradient, pixels: (
            gradient * pixels / pixels.size
        ),
    },
    inputs=[(RNG.normal(size=(4, 4)), RNG.integers(0, 200, (4, 4))), (RNG.normal(size=3), np.array([10, 0, 90]))],
    done="gradient and pixels are on one scale now. His test by correlation would never have told him.",
    stars=2,
    minutes=10,
)
