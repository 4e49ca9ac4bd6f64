import numpy as np
import pytest

from tfae.alphabet import Alphabet

SMALL = Alphabet(characters="abc ", length=8)


def test_strings_come_back_and_the_numbers_are_those_of_the_characters():
    codes = SMALL.encode(["ca", "b c"])
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, [[3, 1, 0, 0, 0, 0, 0, 0], [2, 4, 3, 0, 0, 0, 0, 0]])
    assert SMALL.decode(codes) == ["ca", "b c"]
    x = SMALL.one_hot(codes)
    assert x.shape == (2, *SMALL.shape) == (2, 8, 5) and x.dtype == np.float32
    np.testing.assert_array_equal(x.sum(axis=-1), 1)
    assert SMALL.decode(x) == SMALL.decode(0.3 + 0.4 * x) == ["ca", "b c"]


def test_every_string_of_random_characters_comes_back():
    rng, alphabet = np.random.default_rng(0), Alphabet()
    strings = ["".join(rng.choice([*alphabet.characters], size=rng.integers(1, 49))) for _ in range(500)]
    assert alphabet.decode(alphabet.one_hot(alphabet.encode(strings))) == strings  # spaces at the end included


def test_a_string_ends_at_its_first_filling():
    assert SMALL.decode(np.array([[1, 2, 0, 3, 0, 0, 0, 0], [0] * 8])) == ["ab", ""]


def test_more_than_255_characters_need_wider_numbers():
    alphabet = Alphabet(characters="".join(chr(i) for i in range(0x4E00, 0x4E00 + 300)), length=3)
    assert alphabet.decode(alphabet.encode(["\u4e00\u4f2b"])) == ["\u4e00\u4f2b"]


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        (["ab", "a!b"], r"string 1 has '!' at place 1, which is not in the alphabet 'abc '"),
        (["aB"], "string 0 has 'B' at place 1"),
        (["ab", "abcabcabc"], "string 1 has 9 characters and this alphabet takes 8"),
        (["ab", ""], "string 1 is empty"),
        (["ab", 3], "string 1 is 3, of type int"),
        ([None], "string 0 is None"),
        ("abc", r"single string 'abc'; give a list of strings, such as \['abc'\]"),
        ([], "give at least one string"),
    ],
)
def test_what_is_no_string_of_the_alphabet_is_named_with_its_place(strings, message):
    with pytest.raises(ValueError, match=message):
        SMALL.encode(strings)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 7), int), r"codes has shape \(2, 7\)"),
        (np.full((1, 8), 5), "whole numbers from 0 to 4"),
        (np.full((1, 8), -1), "from -1"),
        (np.full((1, 8), 0.5), "dtype float64"),
        (np.full((1, 8, 5), np.nan), "NaN"),
        (np.zeros((1, 8, 4)), r"shape \(1, 8, 4\)"),
    ],
)
def test_what_is_no_array_of_strings_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        SMALL.decode(x)


@pytest.mark.parametrize(("characters", "length"), [("", 5), ("aba", 5), ("ab", 0), ("ab", 2.0)])
def test_an_impossible_alphabet_is_refused(characters, length):
    with pytest.raises(ValueError, match=r"(characters|length) is"):
        Alphabet(characters=characters, length=length)
