import keras
import numpy as np
import pytest
import tensorflow as tf

from tfae import attribution, data, targets
from tfae.alphabet import Alphabet
from tfae.text import Misspell, TextAutoencoder, Writer, text_autoencoder

SMALL = Alphabet(characters="abc ", length=8)
STRINGS = ["abc", "a b", "cab ba", "bb", "c", "abcabcab"]


@pytest.fixture(scope="module")
def small():
    """A small model, trained until it returns its six strings."""
    keras.utils.set_random_seed(0)
    model = text_autoencoder(SMALL, 6, filters=16, units=32, noise=0.05, seed=0)
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", jit_compile=False, steps_per_execution=8)
    x = SMALL.one_hot(SMALL.encode(STRINGS * 16))
    model.fit(x, epochs=50, batch_size=12, verbose=0)  # 400 steps: the code's running mean needs about 300
    return model


# --- typing errors ---------------------------------------------------------------------------------------------------


def edits_between(a, b):
    """Optimal string alignment distance: the table of the textbook, with swaps of neighbours."""
    d = np.add.outer(np.arange(len(a) + 1), np.arange(len(b) + 1))
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return d[-1, -1]


def misspelt(strings, alphabet, *args, seed=0):
    x = alphabet.one_hot(alphabet.encode(strings))
    damaged = np.asarray(Misspell(*args, seed=seed)(x, training=True))
    np.testing.assert_array_equal(damaged.sum(axis=-1), 1)
    return alphabet.decode(damaged)


def test_one_edit_is_one_edit_of_every_kind():
    strings = ["the old fox"] * 2_000
    damaged = misspelt(strings, Alphabet())
    assert max(edits_between("the old fox", string) for string in set(damaged)) == 1
    changes = np.array([len(string) - 11 for string in damaged])
    np.testing.assert_allclose([(changes == k).mean() for k in (-1, 1)], 0.25, atol=0.04)  # dropped, inserted
    swapped = [string for string in damaged if string != "the old fox" and sorted(string) == sorted("the old fox")]
    replaced = [s for s, k in zip(damaged, changes, strict=True) if not k and sorted(s) != sorted("the old fox")]
    assert 0.15 < len(swapped) / 2_000 < 0.26 and 0.2 < len(replaced) / 2_000 < 0.29
    grown = [len(string) > 2 for string in misspelt(["ab"] * 2_000, Alphabet())]
    assert 0.21 < np.mean(grown) < 0.29  # a last character has no neighbour to swap with, and must not be doubled
    places = [next(i for i in range(11) if string[i] != "the old fox"[i]) for string in replaced]
    assert np.bincount(places, minlength=11).min() > 0.04 * len(places)  # every place is hit


def test_more_edits_change_more_and_none_change_nothing():
    strings = ["the tall witches did not catch the stone"] * 60
    distances = [
        np.mean([edits_between(strings[0], string) for string in misspelt(strings, Alphabet(), *args)])
        for args in ((1, 0.0), (1, 0.5), (1,), (3,))
    ]
    assert distances[0] == 0 and 0.3 < distances[1] < 0.6 and 0.85 < distances[2] <= 1 and 2.4 < distances[3] <= 3


def test_a_full_string_stays_inside_its_places():
    damaged = misspelt(["abcabcab"] * 300, SMALL)
    assert {len(string) for string in damaged} == {7, 8}


def test_outside_training_strings_pass_untouched_and_a_seed_fixes_the_edits():
    x = SMALL.one_hot(SMALL.encode(STRINGS))
    np.testing.assert_array_equal(Misspell(2, seed=0)(x), x)
    assert misspelt(STRINGS, SMALL, seed=1) == misspelt(STRINGS, SMALL, seed=1)
    assert misspelt(STRINGS * 5, SMALL, seed=1) != misspelt(STRINGS * 5, SMALL, seed=2)


@pytest.mark.parametrize(("edits", "probability"), [(0, 1), (1.5, 1), (1, 1.1), (1, -0.1), (1, float("nan"))])
def test_impossible_edits_are_refused(edits, probability):
    with pytest.raises(ValueError, match=r"(edits|probability) is"):
        Misspell(edits, probability)


def test_a_layer_of_the_first_files_is_read():
    config = Misspell(2, 0.3, seed=1).get_config()
    old = {"rate" if name == "probability" else name: value for name, value in config.items()}
    for layer in (Misspell.from_config(config), Misspell.from_config(old)):
        assert (layer.edits, layer.probability, layer.seed) == (2, 0.3, 1)


# --- the writer ------------------------------------------------------------------------------------------------------


def test_writing_and_reading_along_give_the_same_probabilities():
    """Given its own string, the pass that training uses must return what the loop over places returned."""
    writer = Writer(4, 7, 5, units=16, seed=0)
    z = np.random.default_rng(0).normal(size=(9, 4)).astype("float32") * 3
    alone = np.asarray(writer(z))
    own = np.eye(5, dtype="float32")[alone.argmax(axis=-1)]
    np.testing.assert_allclose(writer(z, own), alone, atol=1e-6)
    np.testing.assert_allclose(alone.sum(axis=-1), 1, atol=1e-6)
    assert len({row.tobytes() for row in own}) > 1


def test_no_place_sees_its_own_character_or_a_later_one():
    writer = Writer(4, 7, 5, units=16, seed=0)
    z, rng = np.ones((1, 4), "float32"), np.random.default_rng(0)
    string = rng.integers(5, size=7)
    plain = np.asarray(writer(z, np.eye(5, dtype="float32")[string][None]))[0]
    for place in range(6):
        changed = string.copy()
        changed[place] = (changed[place] + 1) % 5
        other = np.asarray(writer(z, np.eye(5, dtype="float32")[changed][None]))[0]
        differs = np.abs(other - plain).max(axis=-1) > 1e-7
        assert not differs[: place + 1].any() and differs[place + 1]


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_model_learns_its_strings_and_decodes_codes(small):
    x = SMALL.one_hot(SMALL.encode(STRINGS))
    assert SMALL.decode(small.reconstruct(x)) == STRINGS
    z = small.encode(x)
    assert z.shape == (6, 6) and SMALL.decode(small.decode(z)) == STRINGS
    assert small.evaluate(x, verbose=0) < 0.2


@pytest.mark.slow
def test_a_saved_model_comes_back(small, tmp_path):
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras", compile=False)
    x = SMALL.one_hot(SMALL.encode(STRINGS))
    assert isinstance(loaded, TextAutoencoder)
    np.testing.assert_allclose(loaded.encode(x), small.encode(x), atol=1e-6)
    np.testing.assert_allclose(loaded.reconstruct(x), small.reconstruct(x), atol=1e-6)


@pytest.mark.slow
def test_a_code_unit_can_be_attributed_to_characters(small):
    x = SMALL.one_hot(SMALL.encode(STRINGS))
    shown = attribution.integrated_gradients(targets.latent(small, 0), x)
    assert shown.values.shape == x.shape and shown.completeness_gap.max() < 0.005


def test_a_seed_fixes_the_weights_and_edits_only_act_in_training():
    first, second = (text_autoencoder(SMALL, 6, units=8, edits=2, seed=3) for _ in range(2))
    other = text_autoencoder(SMALL, 6, units=8, edits=2, seed=4)
    for a, b, c in zip(first.get_weights(), second.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c) or np.ptp(a) == 0 or a.dtype.kind != "f"  # biases start at 0
    x = SMALL.one_hot(SMALL.encode(STRINGS))
    np.testing.assert_array_equal(first.encode(x), first.encode(x))
    noisy = [np.asarray(first.code(x, training=True)) for _ in range(2)]
    assert np.abs(noisy[0] - noisy[1]).max() > 0.01


@pytest.mark.slow
def test_the_committed_models_return_and_repair_held_out_sentences():
    dataset, alphabet = data.load("sentences"), Alphabet()
    x = alphabet.one_hot(dataset.x_test[-200:])
    truth = np.array(alphabet.decode(x))
    damaged = np.asarray(Misspell(2, seed=1)(x, training=True))
    plain, denoising = (keras.models.load_model(data.checkpoint(f"sentences{end}")) for end in ("", "_denoising"))
    for model in (plain, denoising):
        assert (alphabet.decode(model.reconstruct(x)) == truth).mean() >= 0.97
    repaired = [(alphabet.decode(model.reconstruct(damaged)) == truth).mean() for model in (plain, denoising)]
    assert repaired[1] > 0.85 > repaired[0]


def still(seed=0):
    """A small model without noise, compiled to stay where it is; its loss follows from one pass by hand."""
    model = text_autoencoder(SMALL, 6, filters=8, units=8, noise=0, seed=seed)
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", run_eagerly=True)
    return model


def cross_entropy(y, probabilities):
    return -np.log(np.sum(y * np.asarray(probabilities), axis=-1))  # (n, length)


def test_the_decoder_is_taught_with_the_target():
    """fit(damaged, clean): before each place stand the characters that are to be written, not those that were read."""
    clean, model = SMALL.one_hot(SMALL.encode(STRINGS)), still()
    damaged = np.asarray(Misspell(3, seed=0)(clean, training=True))
    for x, y in ((damaged, clean), (clean, None)):
        target = x if y is None else y
        by_hand = cross_entropy(target, model.decoder(model.encoder(x, training=True), target)).mean()
        assert model.fit(x, y, batch_size=6, verbose=0).history["loss"][0] == pytest.approx(by_hand, rel=1e-4)
    wrong = cross_entropy(clean, model.decoder(model.encoder(damaged, training=True), damaged)).mean()
    assert abs(wrong - cross_entropy(clean, model.decoder(model.encoder(damaged, training=True), clean)).mean()) > 1e-4
    assert model.evaluate(damaged, clean, verbose=0) == pytest.approx(
        cross_entropy(clean, model.reconstruct(damaged)).mean(), rel=1e-4
    )


def test_a_weight_is_that_of_a_string():
    """Eight strings of eight places: the weights must not be taken for those of the places."""
    x, model = SMALL.one_hot(SMALL.encode([*STRINGS, "ba", "aaa"])), still()
    weights = np.array([1, 0, 2, 0, 0.5, 3, 1, 1], "float32")
    trained = cross_entropy(x, model.decoder(model.encoder(x, training=True), x)).mean(axis=1)
    log = model.fit(tf.data.Dataset.from_tensors((x, x, weights)), verbose=0).history
    assert log["loss"][0] == pytest.approx(np.mean(weights * trained), rel=1e-4)
    asked = cross_entropy(x, model.reconstruct(x)).mean(axis=1)
    found = model.evaluate(x, x, sample_weight=weights, batch_size=8, verbose=0)
    assert found == pytest.approx(np.mean(weights * asked), rel=1e-4)


def test_a_step_runs_each_layer_once():
    """The code's running mean has moved by a hundredth of the way to the mean of the batch, once."""
    x, model = SMALL.one_hot(SMALL.encode(STRINGS)), still()
    *reading, normalisation, _ = model.encoder.layers
    code = x
    for layer in reading:
        code = layer(code)
    model.fit(x, batch_size=6, verbose=0)
    np.testing.assert_allclose(normalisation.moving_mean, 0.01 * np.mean(code, axis=0), rtol=1e-4, atol=1e-7)


def test_half_precision_trains_and_writes():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = text_autoencoder(SMALL, 6, filters=8, units=8, noise=0, edits=1, seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    single = text_autoencoder(SMALL, 6, filters=8, units=8, noise=0, edits=1, seed=0)
    x = SMALL.one_hot(SMALL.encode(STRINGS))
    model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    assert np.isfinite(model.fit(x, verbose=0).history["loss"]).all()
    single.set_weights(model.get_weights())
    written = model.reconstruct(x)
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, single.reconstruct(x), atol=0.02)


def test_other_inputs_and_codes_are_refused():
    small = still()
    with pytest.raises(ValueError, match=r"this model takes \(n, 8, 5\)"):
        small.encode(SMALL.encode(STRINGS))
    with pytest.raises(ValueError, match=r"z has shape \(2, 5\); this model takes \(n, 6\)"):
        small.decode(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"must be a tfae\.text\.Writer"):
        TextAutoencoder(small.encoder, keras.Sequential([keras.Input((6,)), keras.layers.Dense(40)]))


@pytest.mark.parametrize("wrong", [{"code_size": 0}, {"units": 0}, {"filters": 2.5}, {"noise": -1}, {"edits": -1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        text_autoencoder(SMALL, **wrong)
