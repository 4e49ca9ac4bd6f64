import numpy as np
import pytest
from scipy import signal

from tfae import vowels

INDEX = {name: i for i, name in enumerate(vowels.FACTOR_NAMES)}


def one(**changes):
    """Factors of one plain sound, some of them changed: (1, 7)."""
    plain = {"class": 4, "pitch": 100, "F1": 700, "F2": 1200, "F3": 2500, "scale": 1, "level": -10}
    return np.array([list((plain | changes).values())])


def middle_spectrum(sound):
    """Complex spectrum of 0.2 s in the middle, in bins of 5 Hz."""
    return np.fft.rfft(sound[800:2400].astype(float))


def test_a_sound_is_its_fourier_series_filtered():
    """The middle of a sound against the sum over harmonics, with the tract's response computed pole by pole."""
    factors = one(pitch=125, F1=500, F2=1500)
    t = np.arange(3200) / vowels.SAMPLE_RATE
    expected = np.zeros(3200)
    poles = zip((0, 500, 1500, 2500, 3500), (100, 60, 90, 150, 200), strict=True)
    poles = [np.exp((-np.pi * width + 2j * np.pi * place) / vowels.SAMPLE_RATE) for place, width in poles]
    for k in range(1, 33):  # 33 * 125 Hz is above 4 kHz
        z = np.exp(2j * np.pi * k * 125 / vowels.SAMPLE_RATE)
        tract = np.prod([1 / ((1 - p / z) * (1 - p.conj() / z)) for p in poles]) * (1 - 1 / z)
        expected += (tract * np.exp(2j * np.pi * k * 125 * t)).real
    made = vowels.draw(factors)[0].astype(float)
    inside = slice(1200, 2800)  # after the tract has settled, before the sound fades
    ratio = made[inside] @ expected[inside] / (expected[inside] @ expected[inside])
    np.testing.assert_allclose(made[inside], ratio * expected[inside], atol=1e-4 * np.abs(made).max())


def test_all_power_lies_at_multiples_of_the_pitch():
    power = np.abs(middle_spectrum(vowels.draw(one(pitch=105))[0])) ** 2  # 105 Hz is bin 21
    assert power[21::21].sum() > 0.9999 * power.sum()
    assert (power[21:600:21] > 100 * power[31:610:21][: len(power[21:600:21])]).all()


def test_a_formant_strengthens_the_harmonics_near_it():
    for name, bin_of in (("F1", 700), ("F2", 1200), ("F3", 2500)):
        here, away = (
            np.abs(middle_spectrum(vowels.draw(one(**{name: value}))[0]))[bin_of // 5]
            for value in (bin_of, bin_of + 250)
        )
        assert here > 2 * away, name


def test_pitch_leaves_the_envelope_as_it_is():
    low, high = (np.abs(middle_spectrum(vowels.draw(one(pitch=p))[0])) for p in (100, 200))
    at = np.arange(200, 3800, 200) // 5  # harmonics of both
    np.testing.assert_allclose(np.diff(np.log(low[at])), np.diff(np.log(high[at])), atol=0.05)


def test_the_level_is_the_peak_and_nothing_else():
    loud, soft = vowels.draw(np.concatenate([one(level=-6), one(level=-18)]))
    np.testing.assert_allclose(20 * np.log10([np.abs(loud).max(), np.abs(soft).max()]), [-6, -18], atol=1e-4)
    np.testing.assert_allclose(soft, loud * 10 ** (-12 / 20), atol=1e-6)
    assert loud[0] == loud[-1] == 0


def test_the_resonator_has_its_peak_and_its_width():
    """Klatt's resonator: gain 1 at 0 Hz, peak at the centre, 3 dB less half a bandwidth beside it."""
    section = vowels._resonator(1000, 80)
    at = [0, 1000, 960, 1040]
    _, gain = signal.sosfreqz([section], worN=at, fs=vowels.SAMPLE_RATE)
    assert abs(gain[0]) == pytest.approx(1)
    np.testing.assert_allclose(20 * np.log10(np.abs(gain[2:] / gain[1])), -3.01, atol=0.3)


def test_the_table_has_ten_vowels_with_rising_formants():
    table = np.array(list(vowels.VOWELS.values()))
    assert table.shape == (10, 3) and (np.diff(table, axis=1) > 0).all()
    assert vowels.VOWELS["heed"] == (270, 2290, 3010) and vowels.VOWELS["hod"] == (730, 1090, 2440)


def test_factors_are_balanced_independent_and_in_range():
    factors = vowels.sample_factors(20_000, seed=0)
    assert factors.dtype == np.float32
    assert np.bincount(factors[:, 0].astype(int)).tolist() == [2000] * 10
    for name, (low, high) in {"pitch": (80, 160), "scale": (0.9, 1.1), "level": (-18, -6)}.items():
        column = factors[:, INDEX[name]]
        assert low <= column.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < column.max() <= high
    free = factors[:, [0, INDEX["pitch"], INDEX["scale"], INDEX["level"]]]
    assert np.abs(np.corrcoef(free.T) - np.eye(4)).max() < 4 / np.sqrt(20_000)
    mean = np.array(list(vowels.VOWELS.values()))[factors[:, 0].astype(int)]
    strayed = factors[:, 2:5] / (mean * factors[:, [INDEX["scale"]]]) - 1
    assert 0.079 < np.abs(strayed).max() <= 0.0801 and np.abs(np.corrcoef(strayed.T) - np.eye(3)).max() < 0.03


def test_the_same_seed_makes_the_same_sounds():
    sounds, factors = vowels.make(20, seed=3)
    again, _ = vowels.make(20, seed=3)
    np.testing.assert_array_equal(sounds, again)
    np.testing.assert_array_equal(sounds[5:6], vowels.draw(factors[5:6]))  # a sound does not know its neighbours
    assert not np.array_equal(sounds, vowels.make(20, seed=4)[0])
    assert sounds.shape == (20, 3200) and sounds.dtype == np.float32 and np.abs(sounds).max() <= 10 ** (-6 / 20) + 1e-6


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (np.zeros((4, 6)), r"shape \(4, 6\)"),
        (one(pitch=np.nan), "NaN"),
        (one(pitch=0), "row 0 of factors is .*pitch 0.*a pitch from 20 to 1000 Hz"),
        (np.concatenate([one(), one(F2=600)]), "row 1 of factors is .*F1 < F2 < F3"),
        (one(F3=3600), "F3 < 3500"),
        (one(scale=1.2), "4000 Hz"),
        (one(level=1), "a level of at most 0"),
    ],
)
def test_what_cannot_be_spoken_is_said(factors, message):
    with pytest.raises(ValueError, match=message):
        vowels.draw(factors)


def test_bad_arguments_are_said():
    with pytest.raises(ValueError, match="n is 0"):
        vowels.make(0, seed=0)
    with pytest.raises(ValueError, match="seed is -1"):
        vowels.sample_factors(5, seed=-1)
