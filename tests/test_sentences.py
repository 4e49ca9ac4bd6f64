import numpy as np
import pytest

from tfae import sentences

COLUMN = {name: i for i, name in enumerate(sentences.FACTOR_NAMES)}


def row(**values):
    """One row of factors from what its values stand for; the first word of each table where nothing is said."""
    plain = {"tense": "present", "number": "singular", "polarity": "affirmative"}
    plain |= {name: sentences.LEVELS[name][0] for name in ("adjective", "subject", "verb", "object")}
    return [sentences.LEVELS[name].index(value) for name, value in (plain | values).items()]


def written(**values):
    return sentences.draw([row(**values)])[0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "the old baby finds the apple"),
        ({"number": "plural"}, "the old babies find the apple"),
        ({"tense": "past"}, "the old baby found the apple"),
        ({"tense": "past", "number": "plural"}, "the old babies found the apple"),
        ({"tense": "future"}, "the old baby will find the apple"),
        ({"tense": "future", "number": "plural"}, "the old babies will find the apple"),
        ({"polarity": "negated"}, "the old baby does not find the apple"),
        ({"polarity": "negated", "number": "plural"}, "the old babies do not find the apple"),
        ({"polarity": "negated", "tense": "past"}, "the old baby did not find the apple"),
        ({"polarity": "negated", "tense": "past", "number": "plural"}, "the old babies did not find the apple"),
        ({"polarity": "negated", "tense": "future"}, "the old baby will not find the apple"),
        ({"polarity": "negated", "tense": "future", "number": "plural"}, "the old babies will not find the apple"),
        ({"adjective": "tall", "subject": "wolf", "verb": "carry", "object": "map"}, "the tall wolf carries the map"),
    ],
)  # fmt: skip
def test_every_form_agrees(values, sentence):
    assert written(**values) == sentence


# Written by hand from a dictionary, every word of the tables: not from the rules of the module.
PLURALS = """
babies boys girls men women children cooks bakers doctors farmers sailors kings queens thieves spies witches
ladies dogs cats foxes wolves mice geese nurses
"""
FINITE = """
finds found, loses lost, hides hid, sells sold, buys bought, sees saw, takes took, brings brought, keeps kept,
steals stole, draws drew, throws threw, catches caught, chooses chose, likes liked, wants wanted, carries carried,
drops dropped, watches watched, misses missed
"""


def test_every_noun_has_its_plural():
    subjects = sentences.LEVELS["subject"]
    assert [written(subject=noun, number="plural").split()[2] for noun in subjects] == PLURALS.split()


def test_every_verb_has_its_third_person_and_its_past():
    for verb, forms in zip(sentences.LEVELS["verb"], FINITE.split(","), strict=True):
        assert [written(verb=verb, tense=tense).split()[3] for tense in ("present", "past")] == forms.split()
        assert written(verb=verb, tense="past", polarity="negated").split()[3:6] == ["did", "not", verb]


def test_no_two_rows_of_factors_give_the_same_sentence():
    """Words of one kind have no form in common, and the twelve forms of any verb and subject are twelve."""
    every_form = np.array(np.meshgrid(range(3), range(2), range(2))).reshape(3, -1).T
    rows = [[*form, 0, noun, verb, 0] for form in every_form for noun in range(24) for verb in range(20)]
    assert len({*sentences.draw(rows)}) == len(rows) == 12 * 24 * 20
    assert len(set(sentences.LEVELS["adjective"])) == 10 and len(set(sentences.LEVELS["object"])) == 20


def test_a_content_is_drawn_once_so_that_a_split_holds_contents_out():
    factors = sentences.sample_factors(5_000, seed=1)
    contents = [tuple(content) for content in factors[:, 3:]]
    assert len(set(contents)) == 5_000
    train, test = sentences.draw(factors[:4_000]), sentences.draw(factors[4_000:])
    assert not set(train) & set(test) and not set(contents[:4_000]) & set(contents[4_000:])
    every = sentences.sample_factors(sentences.N_CONTENTS, seed=0)
    assert len({tuple(content) for content in every[:, 3:]}) == sentences.N_CONTENTS == 96_000


def test_factors_are_balanced_and_independent():
    factors = sentences.sample_factors(20_000, seed=0)
    for name, column in zip(sentences.FACTOR_NAMES, factors.T, strict=True):
        counts = np.bincount(column)
        assert len(counts) == len(sentences.LEVELS[name])
        np.testing.assert_allclose(counts * len(counts) / 20_000, 1, atol=0.15)
    assert np.abs(np.corrcoef(factors.T) - np.eye(7)).max() < 4 / np.sqrt(20_000)


def test_made_sentences_are_those_of_their_factors():
    made, factors = sentences.make(50, seed=3)
    for sentence, row in zip(made, factors, strict=True):
        words = {name: sentences.LEVELS[name][value] for name, value in zip(COLUMN, row, strict=True)}
        assert sentence.split()[1] == words["adjective"] and sentence.split()[-1] == words["object"]
        assert (" not " in sentence) == (words["polarity"] == "negated")
        assert (" will " in sentence) == (words["tense"] == "future")


def test_the_same_seed_gives_the_same_factors():
    first, second = sentences.sample_factors(100, seed=3), sentences.sample_factors(100, seed=3)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, sentences.sample_factors(100, seed=4))


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([0, 0, 0, 0, 0, 0, 0], r"shape \(7,\).*tense, number, polarity, adjective, subject, verb, object"),
        ([[0, 0, 0]], r"shape \(1, 3\)"),
        ([["past"] * 7], "dtype"),
        ([[0] * 7, [3, 0, 0, 0, 0, 0, 0]], "tense of row 1 is 3; it must be a whole number from 0 to 2"),
        ([[0, 0, -1, 0, 0, 0, 0]], "polarity of row 0 is -1"),
        ([[0, 0.5, 0, 0, 0, 0, 0]], "number of row 0 is 0.5"),
        ([[0, np.nan, 0, 0, 0, 0, 0]], "number of row 0 is nan"),
    ],
)
def test_bad_factors_are_named(factors, message):
    with pytest.raises(ValueError, match=message):
        sentences.draw(factors)


@pytest.mark.parametrize(
    ("n", "seed", "message"),
    [(0, 0, "n is 0"), (96_001, 0, "96000 different contents"), (2.5, 0, "n is 2.5"), (5, -1, "seed is -1")],
)
def test_impossible_samples_are_refused(n, seed, message):
    with pytest.raises(ValueError, match=message):
        sentences.sample_factors(n, seed=seed)
