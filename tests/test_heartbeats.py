import numpy as np
import pytest

from tfae import heartbeats

N = 400


def beats(kinds, seed=0):
    """Beats of these kinds and their factors; all else follows from the seed."""
    factors = heartbeats.sample_factors(len(kinds), seed=seed)
    factors[:, 0] = kinds
    return heartbeats.draw(factors, seed=seed), factors


@pytest.fixture(scope="module")
def normal():
    return beats(np.zeros(N))


def test_the_same_seed_draws_the_same_beats(normal):
    again, factors = beats(np.zeros(N))
    np.testing.assert_array_equal(again, normal[0])
    np.testing.assert_array_equal(factors, normal[1])
    assert not np.allclose(beats(np.zeros(N), seed=1)[0], again, atol=0.1)
    assert again.shape == (N, 128) and again.dtype == np.float32 and factors.shape == (N, len(heartbeats.FACTOR_NAMES))


def test_the_waves_are_those_of_the_model(normal):
    """McSharry's Table 1, in seconds and millivolts; at 80 beats a minute the waves move towards R."""
    mean = normal[0].mean(axis=0)
    assert heartbeats.TIMES[np.argmax(mean)] == 0  # R
    before, after = heartbeats.TIMES < -0.08, heartbeats.TIMES > 0.08
    assert heartbeats.TIMES[before][np.argmax(mean[before])] == pytest.approx(-1 / 6 * 0.82, abs=0.02)  # P
    assert heartbeats.TIMES[after][np.argmax(mean[after])] == pytest.approx(1 / 4 * 0.82, abs=0.02)  # T
    theta = np.array([-1 / 3, -1 / 12, 0, 1 / 12, 1 / 2]) * np.pi
    a, b = np.array([1.2, -5, 30, -7.5, 0.75]), np.array([0.25, 0.1, 0.1, 0.1, 0.4])
    np.testing.assert_allclose(heartbeats._PLACE, theta / (2 * np.pi))
    np.testing.assert_allclose(heartbeats._WIDTH, b / (2 * np.pi))
    np.testing.assert_allclose(heartbeats._HEIGHT, 4 * a * b**2)


def test_a_beat_is_the_sum_of_its_waves(monkeypatch):
    for name in ("_HEIGHT_SPREAD", "_WIDTH_SPREAD", "_PLACE_SPREAD", "_DRIFT", "_NOISE"):
        monkeypatch.setattr(heartbeats, name, 0 * getattr(heartbeats, name))
    monkeypatch.setattr(heartbeats, "_RATES", (60.0, 60.0))
    x, factors = beats(np.zeros(2))
    waves = zip(heartbeats._PLACE, heartbeats._WIDTH, heartbeats._HEIGHT, strict=True)
    by_hand = sum(h * np.exp(-(((heartbeats.TIMES - p) / w) ** 2) / 2) for p, w, h in waves)
    np.testing.assert_allclose(x, [by_hand, by_hand], atol=1e-6)
    np.testing.assert_allclose(factors[0, 1:], [60, *heartbeats._HEIGHT, 0], rtol=1e-6)


def test_factors_say_how_a_beat_was_drawn(normal):
    x, factors = normal
    column = dict(zip(heartbeats.FACTOR_NAMES, factors.T, strict=True))
    assert column["rate"].min() >= 50 and column["rate"].max() <= 110
    assert np.corrcoef(column["R"], x.max(axis=1))[0, 1] > 0.97
    slope = x[:, -8:].mean(axis=1) - x[:, :8].mean(axis=1)
    assert np.corrcoef(column["drift"], slope)[0, 1] > 0.8
    late = np.argmax(x[:, 65:], axis=1)  # T comes earlier in a fast heart
    assert np.corrcoef(column["rate"], late)[0, 1] < -0.7


WHERE = {1: (-0.3, 0.0), 2: (-0.25, 0.25), 3: (0.0, 0.45), 4: (0.0, 0.5)}  # seconds


@pytest.mark.parametrize("kind", WHERE)
def test_an_illness_changes_its_own_part_of_the_beat_and_no_other(kind, normal):
    ill, factors = beats(np.full(N, kind))
    change = ill - normal[0]
    low, high = np.searchsorted(heartbeats.TIMES, WHERE[kind])
    inside = np.isin(np.arange(128), range(low, high))
    assert np.abs(change[:, ~inside]).max() < 0.05 < np.abs(change[:, inside]).max(axis=1).min()
    np.testing.assert_array_equal(factors[:, 1:], normal[1][:, 1:])  # all else is the twin's


def test_each_illness_does_what_its_name_says(normal):
    def at(x, seconds):
        return x[:, np.argmin(np.abs(heartbeats.TIMES - seconds))]

    ill = {kind: beats(np.full(N, kind))[0] for kind in WHERE}
    assert abs(at(ill[1], -0.14).mean()) < 0.02 < 0.1 < at(normal[0], -0.14).mean()
    assert ((ill[2] > 0.6).sum(axis=1) >= (normal[0] > 0.6).sum(axis=1)).all()
    change = at(ill[3] - normal[0], 0.12)
    assert change.min() > 0.05 and change.max() < 0.26
    assert at(ill[4], 0.21).max() < 0.15 < at(normal[0], 0.21).mean()


def test_kinds_may_be_mixed_and_are_balanced(normal):
    kinds = np.arange(N) % 5
    mixed = beats(kinds)[0]
    np.testing.assert_array_equal(mixed[kinds == 0], normal[0][kinds == 0])
    x, factors = heartbeats.make(N, seed=0)
    assert np.bincount(factors[:, 0].astype(int)).tolist() == [80] * 5 and abs(np.diff(factors[:, 0])).mean() > 1
    np.testing.assert_array_equal(x[factors[:, 0] == 0], normal[0][factors[:, 0] == 0])


def test_a_factor_moves_what_it_stands_for_and_nothing_else(normal):
    """The difference of two beats that differ in one height is that wave, and its peak that difference."""
    x, factors = normal
    for wave, place in (("P", -1 / 6), ("R", 0), ("T", 1 / 4)):
        changed = factors.copy()
        changed[:, heartbeats.FACTOR_NAMES.index(wave)] += 0.5
        change = heartbeats.draw(changed, seed=0) - x
        np.testing.assert_allclose(change.max(axis=1), 0.5, atol=0.02)  # the peak may lie between two samples
        there = place * (60 / factors[:, 1]) ** 0.75  # where a fast heart has it
        assert np.abs(heartbeats.TIMES[change.argmax(axis=1)] - there).max() < 0.06
    changed = factors.copy()
    changed[:, -1] += 1
    np.testing.assert_allclose(heartbeats.draw(changed, seed=0) - x, [np.linspace(-0.5, 0.5, 128)] * N, atol=1e-5)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([[5, 60, 0, 0, 0, 0, 0, 0]], "kind of row 0 is 5; it must be a whole number from 0 to 4.*normal, no P wave"),
        ([[-1, 60, 0, 0, 0, 0, 0, 0]], "kind of row 0 is -1"),
        ([[0, 60, 0, 0, 0, 0, 0, 0], [0.5, 60, 0, 0, 0, 0, 0, 0]], "kind of row 1 is 0.5"),
        ([[0, 0, 0, 0, 0, 0, 0, 0]], "rate of row 0 is 0; it must be positive"),
        ([[0, np.nan, 0, 0, 0, 0, 0, 0]], "factors holds 1 values that are NaN"),
        ([[0, 60]], r"factors has shape \(1, 2\)"),
        (["normal"], "factors has dtype"),
    ],
)
def test_factors_that_cannot_be_drawn_are_named(factors, message):
    with pytest.raises(ValueError, match=message):
        heartbeats.draw(factors)


def test_impossible_arguments_are_refused():
    for call in (heartbeats.make, heartbeats.sample_factors):
        with pytest.raises(ValueError, match="n is 0"):
            call(0)
        with pytest.raises(ValueError, match="seed is -1"):
            call(5, seed=-1)
