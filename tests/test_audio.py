import numpy as np
import pytest
from scipy import linalg, signal

from tfae import audio, vowels

RATE = 8000
T = np.arange(3200) / RATE


def tone(frequency, amplitude=0.5, phase=0.3):
    return amplitude * np.sin(2 * np.pi * frequency * T + phase)


def all_pole(formants, widths, seed=0):
    """White noise through known resonances: (1, 32000)."""
    radius = np.exp(-np.pi * np.array(widths) / RATE)
    poles = radius * np.exp(2j * np.pi * np.array(formants) / RATE)
    a = np.poly(np.concatenate([poles, poles.conj()])).real
    x = signal.lfilter([1], a, np.random.default_rng(seed).normal(size=32_000))
    return (0.5 * x / np.abs(x).max())[np.newaxis]


# --- spectrogram -----------------------------------------------------------------------------------------------------


def test_a_tone_is_its_level_in_its_bin():
    for amplitude, decibels in ((0.5, -6.02), (0.05, -26.02)):
        picture = audio.spectrogram(tone(64 * RATE / 512, amplitude)[np.newaxis])[0]  # the centre of bin 64
        inside = picture[4:-4]
        assert (inside.argmax(axis=1) == 64).all()
        np.testing.assert_allclose(inside[:, 64], decibels, atol=0.01)
        np.testing.assert_allclose(inside[:, [63, 65]], decibels - 6.02, atol=0.01)  # Hann: half, one bin away
        assert (inside[:, 70:] == audio.FLOOR).all()


def test_the_spectrogram_is_that_of_frames_cut_by_hand():
    x = np.random.default_rng(0).normal(size=(2, 2000)) * 0.1
    picture = audio.spectrogram(x)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    for frame in (3, 7):  # frame k is centred on sample 128 (k - 1)
        start = 128 * (frame - 1) - 256
        by_hand = np.abs(np.fft.rfft(x[:, start : start + 512] * window)) / window.sum() * 2
        np.testing.assert_allclose(picture[:, frame], 20 * np.log10(by_hand), atol=1e-3)
    assert picture.shape == (2, 19, 257) and picture.dtype == np.float32


# --- Griffin-Lim -----------------------------------------------------------------------------------------------------


def test_analysis_and_inverse_are_inverse():
    x = np.random.default_rng(0).normal(size=(3, 2000))
    np.testing.assert_allclose(audio._inverse(audio._stft(x), 2000), x, atol=1e-6)


def error(x, **options):
    wanted = audio.spectrogram(x)
    found = audio.spectrogram(audio.griffin_lim(wanted, x.shape[1], **options))
    return 10 ** (found / 20) - 10 ** (wanted / 20)


def test_griffin_lim_without_momentum_is_the_original_and_never_gets_worse():
    x, _ = vowels.make(2, seed=0)
    wanted = 10 ** (audio.spectrogram(x).astype(float) / 20) * audio._FULL_SCALE
    angles = np.random.default_rng(5).uniform(-np.pi, np.pi, wanted.shape).astype(np.float32)
    spectrum, gaps = wanted * np.exp(1j * angles), []
    for _ in range(6):  # the iteration of the article, written with nothing but its two projections
        consistent = audio._stft(audio._inverse(spectrum, 3200))
        gaps.append(np.linalg.norm(np.abs(consistent) - wanted))
        spectrum = wanted * np.exp(1j * np.angle(consistent))
    assert (np.diff(gaps) < 0).all()
    made = audio.griffin_lim(audio.spectrogram(x), 3200, steps=6, momentum=0, seed=5)
    np.testing.assert_allclose(made, audio._inverse(spectrum, 3200), atol=1e-5)


def test_griffin_lim_with_scipys_transform_makes_the_same_sounds():
    """As chapter 14 writes it out."""
    stft = signal.ShortTimeFFT(signal.windows.hann(512, sym=False), hop=128, fs=8000, phase_shift=None)
    wanted = audio.spectrogram(vowels.make(2, seed=0)[0][:, :3100])
    strength = 128 * 10 ** (wanted / 20)
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, strength.shape)
    spectrum, possible = strength * np.exp(1j * angles), 0
    for _ in range(8):
        sound = stft.istft(spectrum.swapaxes(1, 2), k1=3100)
        before, possible = possible, stft.stft(sound).swapaxes(1, 2)
        ahead = possible + 0.99 * (possible - before)
        spectrum = strength * ahead / np.abs(ahead)
    expected = stft.istft(spectrum.swapaxes(1, 2), k1=3100)
    np.testing.assert_allclose(audio.griffin_lim(wanted, 3100, steps=8), expected, atol=1e-4)


def test_more_rounds_come_nearer_and_momentum_sooner():
    x, _ = vowels.make(4, seed=0)
    gaps = {
        (rounds, momentum): np.linalg.norm(error(x, steps=rounds, momentum=momentum))
        for rounds, momentum in ((1, 0), (30, 0), (30, 0.99))
    }
    assert gaps[30, 0.99] < 0.8 * gaps[30, 0] < 0.8 * 0.5 * gaps[1, 0]


def test_a_tone_comes_back():
    x = tone(440)[np.newaxis]
    made = audio.griffin_lim(audio.spectrogram(x), 3200)
    assert made.dtype == np.float32 and made.shape == (1, 3200)
    np.testing.assert_allclose(audio.pitch(made, high=500), 440, rtol=2e-3)
    np.testing.assert_allclose(np.abs(made[0, 800:2400]).max(), 0.5, atol=0.03)


def test_what_griffin_lim_makes_can_be_analysed_again():
    """Strengths of noise at full scale fit no sound below it: turned down as a whole, the shape is that of before."""
    x = np.random.default_rng(0).normal(size=(1, 2000))
    picture = audio.spectrogram(0.99 * x / np.abs(x).max()) + 12
    picture = np.minimum(picture, 0)
    made = audio.griffin_lim(picture, 2000, steps=3)
    strength = 128 * 10 ** (picture / 20)
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, strength.shape)
    spectrum, possible = strength * np.exp(1j * angles), 0
    for _ in range(3):
        before, possible = possible, audio._stft(audio._inverse(spectrum, 2000))
        ahead = possible + 0.99 * (possible - before)
        spectrum = strength * ahead / np.abs(ahead)
    loud = audio._inverse(spectrum, 2000)
    assert np.abs(loud).max() > 1.05 and np.abs(made).max() == 1
    np.testing.assert_allclose(made, loud / np.abs(loud).max(), atol=1e-4)
    audio.spectrogram(made)


def test_the_same_seed_gives_the_same_sound():
    picture = audio.spectrogram(vowels.make(2, seed=0)[0])
    first, second, other = (audio.griffin_lim(picture, 3200, steps=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decibels": np.zeros((1, 28, 256))}, r"decibels has shape \(1, 28, 256\).*\(n, 28, 257\)"),
        ({"length": 3000}, r"takes \(n, 27, 257\)"),
        ({"length": 100}, "at least 512"),
        ({"steps": 0}, "steps is 0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"decibels": np.full((1, 28, 257), np.nan)}, "NaN"),
        ({"decibels": np.full((1, 28, 257), 0.7)}, "0 decibels is full scale"),
    ],
)
def test_what_griffin_lim_cannot_invert_is_said(change, message):
    arguments = {"decibels": np.full((1, 28, 257), -20.0), "length": 3200} | change
    with pytest.raises(ValueError, match=message):
        audio.griffin_lim(**arguments)


# --- pitch -----------------------------------------------------------------------------------------------------------


def test_the_pitch_of_a_tone_is_its_frequency():
    frequencies = np.array([61, 80.3, 123.4, 200, 287.1, 395])
    np.testing.assert_allclose(audio.pitch(np.stack([tone(f) for f in frequencies])), frequencies, rtol=1e-3)


def test_what_a_shift_leaves_over_is_the_sum_of_squares():
    x = np.random.default_rng(0).normal(size=(2, 300))
    left = audio._left_over(x, 40)
    for lag in (0, 1, 17, 40):
        np.testing.assert_allclose(left[:, lag], np.square(x[:, :260] - x[:, lag : lag + 260]).sum(axis=1), atol=1e-9)


def test_the_pitch_of_harmonics_without_the_first_is_still_the_fundamental():
    x = sum(tone(150 * k, 0.1, k) for k in (2, 3, 4, 5))
    np.testing.assert_allclose(audio.pitch(x[np.newaxis]), 150, rtol=1e-3)


def test_the_pitch_does_not_depend_on_level_or_on_the_other_sounds():
    x = np.stack([tone(100), tone(220, 0.01), tone(150)])
    np.testing.assert_allclose(audio.pitch(x)[1:2], audio.pitch(50 * x[1:2]), rtol=1e-9)


def test_the_pitch_of_vowels_is_what_they_were_made_with():
    sounds, factors = vowels.make(200, seed=7)
    np.testing.assert_allclose(audio.pitch(sounds), factors[:, 1], rtol=1e-3)


def test_the_pitch_at_another_rate():
    x = 0.5 * np.sin(2 * np.pi * 130 * np.arange(16_000) / 44_100)
    np.testing.assert_allclose(audio.pitch(x[np.newaxis], sample_rate=44_100), 130, rtol=1e-3)


@pytest.mark.parametrize("offset", [0.02, 0.3, -0.4])
def test_an_offset_changes_neither_pitch_nor_formants(offset):
    sounds, factors = vowels.make(20, seed=7)
    np.testing.assert_allclose(audio.pitch(sounds + offset), factors[:, 1], rtol=1e-3)
    np.testing.assert_allclose(audio.formants(sounds + offset), audio.formants(sounds), rtol=1e-3)
    tones = np.stack([tone(f) for f in (61, 123.4, 395)])
    np.testing.assert_allclose(audio.pitch(tones + offset), [61, 123.4, 395], rtol=1e-3)


def test_noise_has_no_pitch():
    assert np.isnan(audio.pitch(0.1 * np.random.default_rng(0).normal(size=(5, 3200)))).all()


# --- formants --------------------------------------------------------------------------------------------------------


def test_the_predictor_of_an_all_pole_signal_is_its_recursion():
    """Autocorrelations in closed form from the poles; solve_toeplitz gives the recursion back."""
    a = np.poly([0.9 * np.exp(1j), 0.9 * np.exp(-1j), 0.7 * np.exp(2j), 0.7 * np.exp(-2j)]).real
    impulse = signal.lfilter([1], a, np.eye(1, 4000)[0])
    r = np.array([impulse[: 4000 - k] @ impulse[k:] for k in range(5)])
    np.testing.assert_allclose(linalg.solve_toeplitz(r[:-1], r[1:]), -a[1:], atol=1e-10)


def test_the_formants_of_an_all_pole_signal_are_its_resonances():
    # pre-emphasis adds a zero near 1: a source with a pole there cancels it, as a voice does
    x = signal.lfilter([1], [1, -0.97], all_pole((500, 1500, 2500), (60, 90, 120)))
    x = 0.5 * x / np.abs(x).max()
    np.testing.assert_allclose(audio.formants(x, order=6)[0], [500, 1500, 2500], rtol=0.02)
    assert audio.formants(x, n_formants=2, order=6).shape == (1, 2)


def test_a_formant_that_is_not_there_is_nan():
    x = signal.lfilter([1], [1, -0.97], all_pole((800,), (60,)))
    found = audio.formants(0.5 * x / np.abs(x).max(), order=6)[0]
    np.testing.assert_allclose(found[0], 800, rtol=0.02)
    assert np.isnan(found[2])


def test_the_formants_of_vowels_are_near_what_they_were_made_with():
    sounds, factors = vowels.make(200, seed=7)
    errors = np.abs(audio.formants(sounds) / factors[:, 2:5] - 1)
    assert (np.median(errors, axis=0) < (0.03, 0.01, 0.005)).all()
    assert (errors < 0.08).mean(axis=0).min() > 0.95
    low = factors[:, 1] < 110  # harmonics close together show the envelope best
    assert errors[low].max() < 0.08


def test_formants_do_not_depend_on_level():
    sounds, _ = vowels.make(3, seed=0)
    np.testing.assert_allclose(audio.formants(sounds), audio.formants(0.1 * sounds), rtol=1e-5)


# --- a voice taken apart: envelope and pitch -------------------------------------------------------------------------


def test_the_envelope_of_a_voice_goes_through_its_harmonics():
    levels = -20 - 0.5 * np.arange(1, 32)  # decibels, falling evenly
    x = sum(10 ** (level / 20) * np.cos(2 * np.pi * 125 * k * T + k * k) for k, level in enumerate(levels, 1))
    found = audio.envelope(audio.spectrogram(x[np.newaxis]), [125.0])[0, 5:-5]
    np.testing.assert_allclose(found[:, 8:249:8], np.tile(levels, (len(found), 1)), atol=0.01)  # 125 Hz is 8 bins
    np.testing.assert_allclose(found[:, 12], (levels[0] + levels[1]) / 2, atol=0.01)  # a straight line between
    np.testing.assert_allclose(found[:, :8], levels[0], atol=0.01)
    # a pitch off by 0.3 % puts the 24th harmonic half a bin too high, and its strength is found all the same
    off = audio.envelope(audio.spectrogram(x[np.newaxis]), [125.4])[0, 5:-5]
    np.testing.assert_allclose(off[:, 193], levels[23], atol=0.2)


def test_a_voice_taken_apart_and_joined_is_the_same_near_its_harmonics():
    sounds, factors = vowels.make(20, seed=3)
    picture = audio.spectrogram(sounds)
    joined = audio.voiced(audio.envelope(picture, factors[:, 1]), factors[:, 1])
    strong = picture > -40
    assert np.sqrt(np.mean(np.square(joined - picture)[strong])) < 3
    assert joined.min() >= audio.FLOOR and joined.max() <= 0 and joined.dtype == np.float32


def test_the_comb_is_the_spectrum_of_the_window():
    flat = np.full((2, 3, 257), -10.0)
    for row, frequency in zip(audio.voiced(flat, [250.0, 333.0]), (250, 333), strict=True):
        seen = audio.spectrogram(tone(frequency, 10 ** (-10 / 20))[np.newaxis])[0, 12]
        near = slice(int(frequency / 15.625) - 1, int(frequency / 15.625) + 3)
        np.testing.assert_allclose(row[1, near], seen[near], atol=0.05)
        assert row[1, 0] < -60  # no harmonic at 0 Hz


def test_another_pitch_leaves_the_formants_where_they_were():
    sounds, factors = vowels.make(40, seed=3)
    low = factors[:, 1] < 125
    picture = audio.envelope(audio.spectrogram(sounds[low]), factors[low, 1])
    made = audio.griffin_lim(audio.voiced(picture, 1.25 * factors[low, 1]), 3200, steps=30)
    np.testing.assert_allclose(audio.pitch(made), 1.25 * factors[low, 1], rtol=0.01)
    assert (np.abs(audio.formants(made) / factors[low, 2:5] - 1) < 0.08).mean() > 0.95


@pytest.mark.parametrize("function", [audio.envelope, audio.voiced])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decibels": np.zeros((2, 5, 256))}, r"decibels has shape \(2, 5, 256\)"),
        ({"decibels": np.full((2, 5, 257), np.nan)}, "NaN"),
        ({"pitch": 100.0}, r"pitch has shape \(\) for 2 sounds; give one pitch each"),
        ({"pitch": [100.0, np.nan]}, "the pitch of sound 1 is nan; it must be from 20 to 1000 Hz"),
        ({"pitch": [5.0, 100.0]}, "the pitch of sound 0 is 5"),
        ({"sample_rate": 10}, "sample_rate is 10"),
        ({"decibels": np.full((2, 5, 257), 0.7)}, "0 decibels is full scale"),
    ],
)
def test_voices_that_cannot_be_taken_apart_are_refused(function, change, message):
    arguments = {"decibels": np.full((2, 5, 257), -20.0), "pitch": [100.0, 120.0], "sample_rate": 8000} | change
    with pytest.raises(ValueError, match=message):
        function(*list(arguments.values())[:2], sample_rate=arguments["sample_rate"])


# --- what cannot be analysed -----------------------------------------------------------------------------------------

good = np.stack([tone(100), tone(200)])
with_nan = np.where(np.arange(3200) == 7, np.nan, good)
clipped = np.clip(5 * good, -1, 1)


@pytest.mark.parametrize("function", [audio.spectrogram, audio.pitch, audio.formants])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (good[0], r"shape \(3200,\).*give x\[np.newaxis\]"),
        (good[..., np.newaxis], r"shape \(2, 3200, 1\).*Of several channels, take one"),
        (good[:0], "empty"),
        (good[:, :100], r"100 samples; this needs at least \d+"),
        (with_nan, "NaN"),
        (3 * good, r"sound \d in x goes to 1\.\d+; sounds are numbers in \[-1, 1\]"),
        ((good * 32767).astype(np.int16), "dtype int16.*divide 16-bit samples by 32768"),
        (np.stack([good[0], 0 * good[0]]), "sound 1 in x is silent"),
        (np.stack([good[0], 0 * good[0] + 0.3]), "sound 1 in x is silent"),
        (np.stack([good[0], clipped[1]]), r"sound 1 in x is clipped: \d+ samples"),
        (np.stack([good[0], 32767 / 32768 * clipped[0]]), "sound 1 in x is clipped"),
        (good.astype(complex), "real numbers"),
    ],
)
def test_sounds_that_cannot_be_analysed_are_refused(function, x, message):
    with pytest.raises(ValueError, match=message):
        function(x)


def test_a_peak_at_full_scale_is_not_clipping():
    x = good.copy()
    x[0, 100] = 1.0
    audio.spectrogram(x)


@pytest.mark.parametrize("function", [audio.pitch, audio.formants])
@pytest.mark.parametrize("rate", [16.0, 8, 96_000, True])
def test_a_wrong_rate_is_said(function, rate):
    with pytest.raises(ValueError, match=f"sample_rate is {rate!r}; it must be a whole number of samples per second"):
        function(good, sample_rate=rate)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: audio.pitch(good, low=5), "low is 5"),
        (lambda: audio.pitch(good, low=100, high=90), "high is 90"),
        (lambda: audio.pitch(good, threshold=0), "threshold is 0"),
        (lambda: audio.formants(good, n_formants=6), "an order of 10 finds at most 5"),
        (lambda: audio.formants(good, order=0), "order is 0"),
    ],
)
def test_bad_arguments_are_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
