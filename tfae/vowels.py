"""Steady vowels made from known pitch and known formants (chapter 14).

A vowel is a buzz heard through a tube: the vocal folds send a train of pulses into the vocal tract, and the tract
strengthens the frequencies near its resonances, the *formants* [1]_. The pulses' rate is the pitch; the first two
formants make the vowel [3]_. Here both are numbers that are kept, so what a resynthesis did to them can be checked:

1. **Source.** A train of pulses with all harmonics below half the sampling rate, equally strong, and none above.
2. **Tract.** A cascade of second-order resonators [2]_: one at 0 Hz makes the pulses as round as a voice's, the others
   are four formants. The lips radiate the change of the flow: a difference.
3. **Level.** The sound fades in and out and is brought to a known peak.

References
----------
.. [1] G. Fant, "Acoustic Theory of Speech Production", Mouton, 1960.
.. [2] D. H. Klatt, "Software for a cascade/parallel formant synthesizer", Journal of the Acoustical Society of
   America 67, 1980.
.. [3] G. E. Peterson and H. L. Barney, "Control methods used in a study of the vowels", Journal of the Acoustical
   Society of America 24, 1952.
"""

from collections.abc import Sequence

import numpy as np
from scipy import signal

from tfae.checks import check_samples, check_seed, check_size

SAMPLE_RATE = 8000  # samples per second
DURATION = 0.4  # seconds
FACTOR_NAMES = ("class", "pitch", "F1", "F2", "F3", "scale", "level")

# F1, F2 and F3 in Hz, mean of 33 men, by the word the vowel was spoken in [3].
VOWELS = {
    "heed": (270, 2290, 3010),
    "hid": (390, 1990, 2550),
    "head": (530, 1840, 2480),
    "had": (660, 1720, 2410),
    "hod": (730, 1090, 2440),
    "hawed": (570, 840, 2410),
    "hood": (440, 1020, 2240),
    "who'd": (300, 870, 2240),
    "hud": (640, 1190, 2390),
    "heard": (490, 1350, 1690),
}

# Where `sample_factors` draws from: lowest and highest.
_PITCH = (80.0, 160.0)  # Hz, even in the logarithm: an octave
_SCALE = (0.9, 1.1)
_JITTER = 0.08  # of each formant by itself, as a fraction of it
_LEVEL = (-18.0, -6.0)  # decibels

_F4 = 3500.0  # Hz, at scale 1
_BANDWIDTHS = (100.0, 60.0, 90.0, 150.0, 200.0)  # Hz, of the resonator at 0 Hz and of the four formants
_FADE = 0.03  # seconds


def sample_factors(n: int, *, seed: int = 0) -> np.ndarray:
    """Draw the factors of `n` sounds.

    Parameters
    ----------
    n : int
        Number of sounds, at least 1.
    seed : int

    Returns
    -------
    ndarray of float32, shape (n, 7)
        One column for each of `FACTOR_NAMES`: class 0 to 9, balanced and shuffled, in the order of `VOWELS`; pitch in
        Hz, from 80 to 160 and even in its logarithm; F1, F2 and F3 in Hz, the mean of the class times `scale`, each
        changed by up to 8 %; scale, 0.9 to 1.1, which a shorter vocal tract makes larger; level, the peak in decibels
        below full scale, -18 to -6. Class, pitch, scale and level are independent: of real voices, high ones have
        shorter tracts.

    Raises
    ------
    ValueError
        If `n` or `seed` is not a whole number or out of range.
    """
    check_size(n, "n")
    rng = np.random.default_rng(check_seed(seed))
    vowel = rng.permutation(np.arange(n) % len(VOWELS))
    pitch = _PITCH[0] * (_PITCH[1] / _PITCH[0]) ** rng.random(n)
    scale = rng.uniform(*_SCALE, n)
    formants = np.array(list(VOWELS.values()))[vowel] * scale[:, None] * rng.uniform(1 - _JITTER, 1 + _JITTER, (n, 3))
    level = rng.uniform(*_LEVEL, n)
    return np.column_stack([vowel, pitch, formants, scale, level]).astype(np.float32)


def draw(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Make one sound for each row of factors.

    Nothing here is random: rows that differ in pitch alone give sounds that differ in pitch alone.

    Parameters
    ----------
    factors : ndarray, shape (n, 7)
        As from `sample_factors`. The sound follows from pitch, F1, F2, F3, scale (which sets the fourth formant, 3500
        times `scale`) and level; the class is a label alone. Pitch and formants may leave the ranges they are sampled
        from.

    Returns
    -------
    ndarray of float32, shape (n, 3200)
        0.4 seconds at 8 kHz, in [-1, 1].

    Raises
    ------
    ValueError
        If `factors` has another shape, is not finite, or cannot be spoken: a pitch below 20 Hz or above 1 kHz, formants
        that do not rise from above 0 Hz to below 4 kHz, or a level above 0.
    """
    factors = check_samples(factors, (len(FACTOR_NAMES),), "factors").astype(np.float64)
    _, pitch, f1, f2, f3, scale, level = factors.T
    f4 = _F4 * scale
    for good, wanted in (
        ((pitch >= 20) & (pitch <= 1000), "a pitch from 20 to 1000 Hz"),
        (
            (f1 > 0) & (f2 > f1) & (f3 > f2) & (f4 > f3) & (f4 < SAMPLE_RATE / 2),
            "0 < F1 < F2 < F3 < 3500 * scale < 4000 Hz",
        ),
        (level <= 0, "a level of at most 0 decibels"),
    ):
        if not good.all():
            i = int(np.argmin(good))
            given = ", ".join(f"{name} {value:g}" for name, value in zip(FACTOR_NAMES, factors[i], strict=True))
            raise ValueError(f"row {i} of factors is {given}; a vowel needs {wanted}")
    formants = np.column_stack([f1, f2, f3, f4])
    sounds = np.stack([_speak(*row) for row in zip(pitch, formants, strict=True)])
    sounds *= signal.windows.tukey(sounds.shape[1], 2 * _FADE / DURATION)
    peak = 10 ** (level / 20)
    return (sounds * (peak / np.abs(sounds).max(axis=1))[:, None]).astype(np.float32)


def make(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` sounds, (n, 3200) float32, and their factors, (n, 7) float32.

    See `draw` and `sample_factors`, also for what is raised.
    """
    factors = sample_factors(n, seed=seed)
    return draw(factors), factors


def _speak(pitch: float, formants: np.ndarray) -> np.ndarray:
    """Return one sound of any level: pulses through the resonators, then the lips."""
    t = np.arange(round(DURATION * SAMPLE_RATE)) / SAMPLE_RATE
    cycle = (pitch * t + 0.5) % 1 - 0.5  # 0 at each pulse
    m = 2 * np.floor(SAMPLE_RATE / 2 / pitch) + 1  # harmonics of either sign, and 0 Hz
    pulses = np.sinc(m * cycle) / np.sinc(cycle)  # (1 + 2 sum_k cos(2 pi k pitch t)) / m
    cascade = [_resonator(*pair) for pair in zip((0.0, *formants), _BANDWIDTHS, strict=True)]
    return np.diff(signal.sosfilt(cascade, pulses), prepend=0.0)


def _resonator(frequency: float, bandwidth: float) -> list[float]:
    """Return Klatt's resonator, of gain 1 at 0 Hz, as a second-order section."""
    radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
    a1, a2 = -2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE), radius**2
    return [1 + a1 + a2, 0, 0, 1, a1, a2]
