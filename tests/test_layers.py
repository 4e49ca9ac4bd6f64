import keras
import numpy as np
import pytest

from tfae import layers

X = np.random.default_rng(0).random((200, 50)).astype("float32")


@pytest.mark.parametrize("kind", layers.CORRUPTIONS)
def test_nothing_is_damaged_outside_training(kind):
    np.testing.assert_array_equal(layers.Corrupt(kind, 0.5)(X), X)


def test_each_corruption_does_what_its_name_says():
    noise = np.asarray(layers.Corrupt("gaussian", 0.3, seed=0)(X, training=True)) - X
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 0.3) < 0.01
    masked = np.asarray(layers.Corrupt("masking", 0.25, seed=0)(X, training=True))
    assert abs((masked == 0).mean() - 0.25) < 0.02 and ((masked == X) | (masked == 0)).all()
    salted = np.asarray(layers.Corrupt("salt_and_pepper", 0.4, seed=0)(X, training=True))
    assert abs((salted == 0).mean() - 0.2) < 0.02 and abs((salted == 1).mean() - 0.2) < 0.02
    assert ((salted == X) | (salted == 0) | (salted == 1)).all()


def test_noise_is_new_at_each_call_and_the_same_for_the_same_seed():
    first, second = (layers.Corrupt("gaussian", 0.3, seed=4) for _ in range(2))
    once, again, same = first(X, training=True), first(X, training=True), second(X, training=True)
    assert not np.array_equal(once, again)
    np.testing.assert_array_equal(once, same)


def test_exactly_the_k_largest_units_are_kept():
    z = np.random.default_rng(0).normal(size=(100, 20)).astype("float32")
    kept = np.asarray(layers.TopK(5)(z))
    assert ((kept != 0).sum(axis=1) == 5).all()
    for row, full in zip(kept, z, strict=True):
        assert set(row[row != 0]) == set(np.sort(full)[-5:])


def test_of_equal_units_exactly_k_are_kept():
    assert (np.asarray(layers.TopK(3)(np.ones((4, 9), "float32"))).sum(axis=1) == 3).all()


def test_sampling_has_the_mean_and_the_variance_it_is_given():
    mean, log_variance = np.full((50_000, 1), 2.0, "float32"), np.full((50_000, 1), np.log(0.25), "float32")
    z = np.asarray(layers.Sampling(seed=0)(mean, log_variance))
    assert abs(z.mean() - 2) < 0.02 and abs(z.std() - 0.5) < 0.01


@pytest.mark.parametrize("layer", [layers.Corrupt("masking", 0.2, seed=1), layers.TopK(4)])
def test_layers_survive_saving(layer, tmp_path):
    model = keras.Sequential([keras.Input((50,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X, training=True), model(X, training=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.Corrupt("blur"), "unknown corruption 'blur'; the known ones are gaussian, masking, salt_and_p"),
        (lambda: layers.Corrupt("masking", 1.5), r"level is 1\.5; it must be a number in \[0, 1\]"),
        (lambda: layers.Corrupt("gaussian", -1), r"level is -1; it must be a number in \[0, inf\]"),
        (lambda: layers.TopK(0), "k is 0"),
        (lambda: layers.TopK(51)(X), "k is 51 and there are 50 units"),
        (lambda: layers.Sampling(seed=-1), "seed is -1"),
    ],
)
def test_bad_arguments_are_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
