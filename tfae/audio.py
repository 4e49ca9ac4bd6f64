"""Sound as a picture and back; the pitch, the formants and the envelope of a voice (chapter 14).

Sounds are arrays ``(n, samples)`` of numbers in [-1, 1]; the spectrograms of them are ``(n, frames, bins)``, so that
each frame is a row, as samples of a table are.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, linalg, signal

from tfae.checks import check_number, check_samples, check_seed, check_size

WINDOW = 512  # samples: 64 ms at 8 kHz, long enough to part the harmonics of a low voice
HOP = 128  # samples from one frame to the next
FLOOR = -80.0  # decibels; what is softer counts as this loud

_HANN = signal.windows.hann(WINDOW, sym=False).astype(np.float32)
_FULL_SCALE = WINDOW / 4  # what a sine of amplitude 1 gives in its own bin: half the sum of the window
_BINS = np.arange(WINDOW // 2 + 1)
_EDGE = WINDOW - HOP  # zeros before and after a sound, so that four frames cover each sample
_FULL = 1 - 1 / 2**15  # the largest sample of a 16-bit file
_CHUNK = 256  # sounds transformed together, so that their frames fit in memory
_SILENT = 10 ** (FLOOR / 20)


def spectrogram(x: np.ndarray) -> np.ndarray:
    """Return how strong each frequency is at each time, in decibels.

    Parameters
    ----------
    x : ndarray, shape (n, samples)
        At least 512 samples each, the length of a frame.

    Returns
    -------
    ndarray of float32, shape (n, frames, 257)
        0 is a sine at full scale, -80 the floor. Frames are 128 samples apart; bin ``k`` is at ``k / 512`` of the
        sample rate.

    Raises
    ------
    ValueError
        If `x` is not as above, too short, not finite, leaves [-1, 1], is clipped (three samples or more in a row at
        full scale) or silent (no movement above -80 decibels; an offset is none). So do `pitch` and `formants`.
    """
    x = check_sounds(x, shortest=WINDOW).astype(np.float32)
    chunks = (x[start : start + _CHUNK] for start in range(0, len(x), _CHUNK))
    strength = np.concatenate([np.abs(_stft(chunk)) for chunk in chunks]) / np.float32(_FULL_SCALE)
    return 20 * np.log10(np.maximum(strength, np.float32(_SILENT)))


def griffin_lim(
    decibels: np.ndarray, length: int, *, steps: int = 60, momentum: float = 0.99, seed: int = 0
) -> np.ndarray:
    """Return sounds whose spectrograms come near `decibels`: the phases that are missing are searched for.

    From random phases, go to the sound and back to its spectrum, keep the phases and put the wanted strengths in again
    [1]_. Frames overlap, so most phases fit no sound; each round can only come nearer to one that does. A step beyond
    the last one, of size `momentum`, gets there sooner [2]_; with 0 it is the original method.

    Parameters
    ----------
    decibels : ndarray, shape (n, frames, 257)
        As from `spectrogram`.
    length : int
        Samples of each sound.
    steps : int
        Rounds of the search.
    momentum : float
        In [0, 1].
    seed : int
        Of the first phases.

    Returns
    -------
    ndarray of float32, shape (n, length)
        In [-1, 1]: a sound that would be louder, since its strengths fit no other phases, is turned down as a whole.

    Raises
    ------
    ValueError
        If `decibels` is not finite or not the shape of spectrograms of `length` samples, or an argument is out of
        range.

    References
    ----------
    .. [1] D. W. Griffin and J. S. Lim, "Signal estimation from modified short-time Fourier transform", IEEE
       Transactions on Acoustics, Speech, and Signal Processing 32, 1984.
    .. [2] N. Perraudin, P. Balazs and P. L. Søndergaard, "A fast Griffin-Lim algorithm", WASPAA 2013.
    """
    if check_size(length, "length") < WINDOW:
        raise ValueError(f"length is {length} samples; it must be at least {WINDOW}, the length of a frame")
    frames = -(-length // HOP) + WINDOW // HOP - 1
    decibels = _check_decibels(decibels, frames)
    check_size(steps, "steps")
    check_number(momentum, "momentum", 0, 1)
    strength = _FULL_SCALE * 10 ** (decibels.astype(np.float32) / 20)
    angles = np.random.default_rng(check_seed(seed)).uniform(-np.pi, np.pi, strength.shape).astype(np.float32)
    spectrum = strength * np.exp(1j * angles)
    possible = np.zeros_like(spectrum)
    for _ in range(steps):
        before, possible = possible, _stft(_inverse(spectrum, length))  # the spectrum of a sound
        ahead = possible + momentum * (possible - before)
        spectrum = strength * ahead / np.maximum(np.abs(ahead), 1e-12)
    x = _inverse(spectrum, length)
    return x / np.maximum(np.abs(x).max(axis=1, keepdims=True), 1)


def pitch(
    x: np.ndarray, *, sample_rate: int = 8000, low: float = 60, high: float = 400, threshold: float = 0.15
) -> np.ndarray:
    """Return the pitch of each sound in Hz, by YIN [1]_: the shortest shift under which the sound repeats.

    Parameters
    ----------
    x : ndarray, shape (n, samples)
        At least two of the longest periods.
    sample_rate : int
        Samples per second, 8000 to 48000.
    low, high : float
        The pitch is looked for between these, in Hz, at least 20 and below 800. What the sound has above 800 Hz is not
        looked at: there a step of one sample is too coarse to bring a period over itself.
    threshold : float
        In (0, 1). A shift counts as a repetition if what it leaves over, relative to the shorter shifts' mean, is below
        this.

    Returns
    -------
    ndarray of float64, shape (n,)
        One pitch for the whole of each sound, NaN where it repeats at no shift. A tone above `high` repeats after
        several of its periods too, and comes out as that fraction of its frequency.

    Raises
    ------
    ValueError
        If `x` is not as `spectrogram` accepts it, or an argument is out of range.

    References
    ----------
    .. [1] A. de Cheveigné and H. Kawahara, "YIN, a fundamental frequency estimator for speech and music", Journal of
       the Acoustical Society of America 111, 2002.
    """
    sample_rate = _check_sample_rate(sample_rate)
    check_number(low, "low", 20, 400)
    check_number(high, "high", low, 800, open_ends=True)
    check_number(threshold, "threshold", 0, 1, open_ends=True)
    longest = int(np.ceil(sample_rate / low)) + 1
    x = check_sounds(x, shortest=2 * longest)
    x = signal.sosfilt(signal.butter(4, 800, fs=sample_rate, output="sos"), _centred(x))
    left = _left_over(x, longest)
    mean = np.cumsum(left[:, 1:], axis=1) / np.arange(1, longest + 1)  # of the shorter shifts and this one
    relative = np.concatenate([np.ones((len(x), 1)), left[:, 1:] / np.maximum(mean, 1e-12)], axis=1)
    return np.array([_first_dip(row, left[i], sample_rate, high, threshold) for i, row in enumerate(relative)])


def formants(x: np.ndarray, *, sample_rate: int = 8000, n_formants: int = 3, order: int | None = None) -> np.ndarray:
    """Return the first formants of each sound in Hz, by linear prediction [1]_.

    Each sample is predicted from the `order` before it. The best predictor is the inverse of the resonances that the
    sound went through: its zeros that lie near the unit circle are formants. The source's fall with frequency is
    removed first (pre-emphasis).

    Parameters
    ----------
    x : ndarray, shape (n, samples)
        Steady voiced sounds of at least 25 ms.
    sample_rate : int
        Samples per second, 8000 to 48000. Above about 12000 give an `order` of your own.
    n_formants : int
    order : int, optional
        Two for each resonance that is to be expected below half the sample rate, and two for the source. Without it
        ``2 + sample_rate // 1000``.

    Returns
    -------
    ndarray of float64, shape (n, n_formants)
        Rising; NaN from the first formant that was not found.

    Raises
    ------
    ValueError
        If `x` is not as `spectrogram` accepts it, or an argument is out of range.

    Notes
    -----
    The spectrum of a voice is known at its harmonics alone. So a formant comes out up to a few per cent nearer to the
    strongest harmonic than it is, more so at high pitch.

    References
    ----------
    .. [1] B. S. Atal and S. L. Hanauer, "Speech analysis and synthesis by linear prediction of the speech wave",
       Journal of the Acoustical Society of America 50, 1971.
    """
    sample_rate = _check_sample_rate(sample_rate)
    order = 2 + sample_rate // 1000 if order is None else check_size(order, "order")
    if 2 * check_size(n_formants, "n_formants") > order:
        raise ValueError(f"n_formants is {n_formants}; an order of {order} finds at most {order // 2}")
    x = _centred(check_sounds(x, shortest=sample_rate // 40))
    x = signal.lfilter([1, -0.97], 1, x) * np.hamming(x.shape[1])
    found = np.full((len(x), n_formants), np.nan)
    for i, sound in enumerate(x):
        correlation = np.array([sound[: len(sound) - lag] @ sound[lag:] for lag in range(order + 1)])
        predictor = linalg.solve_toeplitz(correlation[:-1], correlation[1:])
        zeros = np.roots([1, *-predictor])
        frequency, bandwidth = np.angle(zeros) * sample_rate / (2 * np.pi), -np.log(np.abs(zeros)) * sample_rate / np.pi
        sharp = np.sort(frequency[(frequency > 90) & (bandwidth < 500)])[:n_formants]
        found[i, : len(sharp)] = sharp
    return found


def envelope(decibels: np.ndarray, pitch: np.ndarray, *, sample_rate: int = 8000) -> np.ndarray:
    """Return how strong the harmonics are, joined by straight lines: what the vocal tract made of the voice.

    A harmonic is as strong as the strongest of the three bins about it.

    Parameters
    ----------
    decibels : ndarray, shape (n, frames, 257)
        As from `spectrogram`.
    pitch : ndarray, shape (n,)
        Hz, as from `pitch`.
    sample_rate : int
        Samples per second, 8000 to 48000.

    Returns
    -------
    ndarray of float32, shape (n, frames, 257)
        Decibels. `voiced` puts the harmonics back, of this pitch or another.

    Raises
    ------
    ValueError
        If `decibels` is not the shape of spectrograms or not finite, or a pitch is not a number from 20 Hz to an
        eighth of the sample rate.
    """
    decibels, spacing = _check_voice(decibels, pitch, sample_rate)
    result = np.empty(decibels.shape, np.float32)
    for i, (frames, step) in enumerate(zip(decibels, spacing, strict=True)):
        harmonics = step * np.arange(1, int(_BINS[-1] / step) + 1)  # in bins
        about = np.clip(np.rint(harmonics)[:, np.newaxis].astype(int) + np.arange(-1, 2), 0, len(_BINS) - 1)
        result[i] = [np.interp(_BINS, harmonics, peaks) for peaks in frames[:, about].max(axis=2)]
    return result


def voiced(envelope: np.ndarray, pitch: np.ndarray, *, sample_rate: int = 8000) -> np.ndarray:
    """Return the spectrogram of a voice of this pitch whose harmonics are as strong as `envelope` says.

    The inverse of `envelope`: each bin gets what the window of a frame lets through of the nearest harmonic.

    Parameters
    ----------
    envelope, pitch, sample_rate
        As in `envelope`.

    Returns
    -------
    ndarray of float32, shape (n, frames, 257)
        Decibels, -80 to 0.

    Raises
    ------
    ValueError
        As `envelope`.
    """
    envelope, spacing = _check_voice(envelope, pitch, sample_rate)
    step = spacing[:, np.newaxis]
    away = np.abs(_BINS - step * np.maximum(np.rint(_BINS / step), 1))  # bins to the nearest harmonic, (n, 257)
    # Hann's window seen `away` bins from a tone; sinc(away) / (1 - away^2) without its 0 / 0 at 1
    passed = np.sinc(away) + 0.5 * (np.sinc(away - 1) + np.sinc(away + 1))
    comb = 20 * np.log10(np.maximum(np.abs(passed), _SILENT))
    return np.clip(envelope + comb[:, np.newaxis], FLOOR, 0).astype(np.float32)


def check_sounds(x: Any, *, shortest: int = 1) -> np.ndarray:
    """Return `x` as float64 if it holds sounds ``(n, samples)`` that can be analysed; raise as `spectrogram` does."""
    x = np.asarray(x)
    if x.dtype.kind in "iu":
        raise ValueError(f"x has dtype {x.dtype}; sounds are numbers in [-1, 1]: divide 16-bit samples by 32768.0")
    if x.ndim != 2:
        hint = " For a single sound, give x[np.newaxis]." if x.ndim == 1 else " Of several channels, take one."
        raise ValueError(f"x has shape {x.shape}; sounds have the shape (n, samples).{hint}")
    x = check_samples(x, None).astype(np.float64)
    if x.shape[1] < shortest:
        raise ValueError(f"the sounds in x have {x.shape[1]} samples; this needs at least {shortest}")
    peak = np.abs(x).max(axis=1)
    if peak.max() > 1:
        raise ValueError(f"sound {np.argmax(peak)} in x goes to {peak.max():g}; sounds are numbers in [-1, 1]")
    moves = np.ptp(x, axis=1) / 2
    if moves.min() < _SILENT:
        raise ValueError(f"sound {np.argmin(moves)} in x is silent: nothing in it is above {FLOOR:g} dB. Leave it out.")
    full = np.abs(x) >= _FULL
    clipped = (full[:, 2:] & full[:, 1:-1] & full[:, :-2]).any(axis=1)
    if clipped.any():
        i = int(np.argmax(clipped))
        raise ValueError(
            f"sound {i} in x is clipped: {full[i].sum()} samples at full scale, three or more in a row. What was cut "
            f"off cannot be analysed; record it again at a lower level, or leave it out."
        )
    return x


def _centred(x: np.ndarray) -> np.ndarray:
    """Remove the constant offset that a microphone may add, which a filter would start with a jump of."""
    return x - x.mean(axis=1, keepdims=True)


def _check_sample_rate(sample_rate: Any) -> int:
    whole = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not whole or not 8000 <= sample_rate <= 48_000:
        raise ValueError(
            f"sample_rate is {sample_rate!r}; it must be a whole number of samples per second from 8000 to 48000"
        )
    return int(sample_rate)


def _check_decibels(decibels: Any, frames: int | None) -> np.ndarray:
    decibels = check_samples(decibels, (frames, len(_BINS)), "decibels")
    if decibels.max() > 0.5:
        raise ValueError(f"decibels goes to {decibels.max():g}; 0 decibels is full scale. Scale it back to decibels?")
    return decibels


def _check_voice(decibels: Any, pitch: Any, sample_rate: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return spectrograms, and the distance of the harmonics of each in bins."""
    sample_rate = _check_sample_rate(sample_rate)
    decibels = _check_decibels(decibels, None)
    pitch = np.asarray(pitch, dtype=np.float64)
    if pitch.shape != (len(decibels),):
        raise ValueError(f"pitch has shape {pitch.shape} for {len(decibels)} sounds; give one pitch each")
    good = (pitch >= 20) & (pitch <= sample_rate / 8)
    if not good.all():
        i = int(np.argmin(good))
        raise ValueError(
            f"the pitch of sound {i} is {pitch[i]:g}; it must be from 20 to {sample_rate / 8:g} Hz. Leave it out."
        )
    return decibels, pitch * WINDOW / sample_rate


def _stft(x: np.ndarray) -> np.ndarray:
    """Return complex spectra, (n, frames, bins), of sounds (n, samples)."""
    padded = np.pad(x, ((0, 0), (_EDGE, _EDGE + -x.shape[1] % HOP)))
    return fft.rfft(sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP] * _HANN)


def _inverse(spectrum: np.ndarray, length: int) -> np.ndarray:
    """Return the sounds whose spectra come nearest, in squares, to `spectrum`: frames windowed again and added."""
    frames = fft.irfft(spectrum) * _HANN
    x = np.zeros((len(frames), (frames.shape[1] - 1) * HOP + WINDOW), frames.dtype)
    for k in range(frames.shape[1]):
        x[:, k * HOP : k * HOP + WINDOW] += frames[:, k]
    return x[:, _EDGE : _EDGE + length] / 1.5  # the sum of the four squared windows over any sample


def _left_over(x: np.ndarray, longest: int) -> np.ndarray:
    """Return the sum of (x_t - x_{t + lag})^2 over the samples that have a partner, (n, longest + 1).

    It is the energy of both less twice their product, and the products of all lags are one correlation.
    """
    kept, lags = x.shape[1] - longest, np.arange(longest + 1)
    energy = np.cumsum(np.pad(np.square(x), ((0, 0), (1, 0))), axis=1)  # (n, samples + 1)
    shifted = energy[:, lags + kept] - energy[:, lags]
    size = 2 * x.shape[1]
    product = np.fft.rfft(x, size) * np.conj(np.fft.rfft(x[:, :kept], size))
    return np.maximum(shifted[:, :1] + shifted - 2 * np.fft.irfft(product, size)[:, lags], 0)


def _first_dip(relative: np.ndarray, left: np.ndarray, sample_rate: int, high: float, threshold: float) -> float:
    """Return the pitch of one sound from what each lag leaves over; NaN where no lag is a repetition."""
    first, last = int(sample_rate / high), len(relative) - 2
    inside = relative[first : last + 1]
    dips = (inside < threshold) & (inside <= relative[first - 1 : last]) & (inside <= relative[first + 1 : last + 2])
    if not dips.any():
        return float("nan")
    lag = first + int(np.argmax(dips))
    before, here, after = left[lag - 1 : lag + 2]  # a parabola through three points finds the dip between samples
    curvature = before - 2 * here + after
    return float(sample_rate / (lag + (0.5 * (before - after) / curvature if curvature > 0 else 0)))
