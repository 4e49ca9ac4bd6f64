import numpy as np
import pytest

from tfae import heartbeats

N = 400


@pytest.fixture(scope="module")
def normal():
    return heartbeats.make(np.zeros(N, int), seed=0)


def test_the_same_seed_draws_the_same_beats(normal):
    again, factors = heartbeats.make(np.zeros(N, int), seed=0)
    np.testing.assert_array_equal(again, normal[0])
    np.testing.assert_array_equal(factors, normal[1])
    assert not np.allclose(heartbeats.make(np.zeros(N, int), seed=1)[0], again, atol=0.1)
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
    x, factors = heartbeats.make(np.zeros(2, int))
    waves = zip(heartbeats._PLACE, heartbeats._WIDTH, heartbeats._HEIGHT, strict=True)
    by_hand = sum(h * np.exp(-(((heartbeats.TIMES - p) / w) ** 2) / 2) for p, w, h in waves)
    np.testing.assert_allclose(x, [by_hand, by_hand], atol=1e-6)
    np.testing.assert_allclose(factors[0, 1:], [60, *heartbeats._HEIGHT, 0], rtol=1e-6)


def test_factors_say_how_a_beat_was_drawn(normal):
    x, factors = normal
    column = dict(zip(heartbeats.FACTOR_NAMES, factors.T, strict=True))
    assert (column["kind"] == 0).all() and column["rate"].min() >= 50 and column["rate"].max() <= 110
    assert np.corrcoef(column["R"], x.max(axis=1))[0, 1] > 0.97
    slope = x[:, -8:].mean(axis=1) - x[:, :8].mean(axis=1)
    assert np.corrcoef(column["drift"], slope)[0, 1] > 0.8
    late = np.argmax(x[:, 65:], axis=1)  # T comes earlier in a fast heart
    assert np.corrcoef(column["rate"], late)[0, 1] < -0.7


WHERE = {1: (-0.3, 0.0), 2: (-0.25, 0.25), 3: (0.0, 0.45), 4: (0.0, 0.5)}  # seconds


@pytest.mark.parametrize("kind", WHERE)
def test_an_illness_changes_its_own_part_of_the_beat_and_no_other(kind, normal):
    ill, factors = heartbeats.make(np.full(N, kind), seed=0)
    change = ill - normal[0]
    low, high = np.searchsorted(heartbeats.TIMES, WHERE[kind])
    inside = np.isin(np.arange(128), range(low, high))
    assert np.abs(change[:, ~inside]).max() < 0.05 < np.abs(change[:, inside]).max(axis=1).min()
    np.testing.assert_array_equal(factors[:, [1, 7]], normal[1][:, [1, 7]])  # rate and drift are the twin's
    assert (factors[:, 0] == kind).all()


def test_each_illness_does_what_its_name_says(normal):
    def at(x, seconds):
        return x[:, np.argmin(np.abs(heartbeats.TIMES - seconds))]

    ill = {kind: heartbeats.make(np.full(N, kind), seed=0)[0] for kind in WHERE}
    assert abs(at(ill[1], -0.14).mean()) < 0.02 < 0.1 < at(normal[0], -0.14).mean()
    assert ((ill[2] > 0.6).sum(axis=1) >= (normal[0] > 0.6).sum(axis=1)).all()
    change = at(ill[3] - normal[0], 0.12)
    assert change.min() > 0.05 and change.max() < 0.26
    assert at(ill[4], 0.21).max() < 0.15 < at(normal[0], 0.21).mean()


def test_kinds_may_be_mixed_and_missing(normal):
    kinds = np.arange(N) % 5
    mixed = heartbeats.make(kinds, seed=0)[0]
    np.testing.assert_array_equal(mixed[kinds == 0], normal[0][kinds == 0])
    assert heartbeats.make(np.zeros(0, int))[0].shape == (0, 128)


@pytest.mark.parametrize("kinds", [[5], [-1], [0.0], [[0]], 0, ["normal"]])
def test_unknown_kinds_are_refused(kinds):
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 4.*normal, no P wave"):
        heartbeats.make(kinds)
