"""Strings as arrays of numbers, and back (chapter 14).

>>> alphabet = Alphabet()
>>> x = alphabet.one_hot(alphabet.encode(["the old fox sees the key"]))  # (1, 48, 28)
>>> alphabet.decode(x)
['the old fox sees the key']
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfae.checks import check_samples, check_size


@dataclass(frozen=True, kw_only=True)
class Alphabet:
    """The characters that strings are made of, and the length that all of them are filled up to.

    Character `i` of `characters` has the number ``i + 1``. 0 is the filling: a string ends at its first 0.

    Parameters
    ----------
    characters : str
        Each character once.
    length : int
        Of the longest string.

    Raises
    ------
    ValueError
        If `characters` is empty or has a character twice, or `length` is not a whole number of at least 1.
    """

    characters: str = " abcdefghijklmnopqrstuvwxyz"
    length: int = 48

    def __post_init__(self) -> None:
        check_size(self.length, "length")
        twice = [c for c in self.characters if self.characters.count(c) > 1]
        if not self.characters or twice:
            raise ValueError(
                f"characters is {self.characters!r}; it must be a string that has each of its characters once"
                + (f", and {twice[0]!r} is there {self.characters.count(twice[0])} times" if twice else "")
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one string in `one_hot`: places and characters, the filling included."""
        return self.length, len(self.characters) + 1

    def encode(self, strings: Sequence[str]) -> np.ndarray:
        """Return strings as numbers of characters.

        Returns
        -------
        ndarray of uint8 (of uint32 for more than 255 characters), shape (n, length)

        Raises
        ------
        ValueError
            If there is no string, or one of them is not a string, empty, too long, or holds a character that is not
            in the alphabet. The message names the string and the place.
        """
        if isinstance(strings, str):
            raise ValueError(f"strings is the single string {strings!r}; give a list of strings, such as [{strings!r}]")
        if len(strings) == 0:
            raise ValueError("strings is empty; give at least one string")
        number = {character: i for i, character in enumerate(self.characters, start=1)}
        codes = np.zeros((len(strings), self.length), np.uint8 if len(number) < 256 else np.uint32)
        for row, string in enumerate(strings):
            self._check(string, row)
            codes[row, : len(string)] = [number[character] for character in string]
        return codes

    def _check(self, string: Any, row: int) -> None:
        if not isinstance(string, str):
            raise ValueError(f"string {row} is {string!r}, of type {type(string).__name__}; it must be a string")
        if not string:
            raise ValueError(f"string {row} is empty; remove it, an empty string has nothing to return")
        if len(string) > self.length:
            raise ValueError(
                f"string {row} has {len(string)} characters and this alphabet takes {self.length}: {string!r}. Cut it, "
                f"or give Alphabet a larger length."
            )
        unknown = next((place for place, c in enumerate(string) if c not in self.characters), None)
        if unknown is not None:
            raise ValueError(
                f"string {row} has {string[unknown]!r} at place {unknown}, which is not in the alphabet "
                f"{self.characters!r}: {string!r}. Remove it, or give Alphabet more characters."
            )

    def one_hot(self, codes: np.ndarray) -> np.ndarray:
        """Return numbers of characters as what a network reads: 1 at the character of each place, 0 elsewhere.

        Returns
        -------
        ndarray of float32, shape (n, length, characters + 1)
        """
        return np.eye(self.shape[1], dtype=np.float32)[self._checked_codes(codes)]

    def decode(self, x: np.ndarray) -> list[str]:
        """Return the strings of numbers ``(n, length)`` or of probabilities ``(n, length, characters + 1)``.

        Of probabilities, the largest is taken at each place. A string ends at its first filling, so it may be empty.

        Raises
        ------
        ValueError
            If `x` is of neither shape, not finite, or holds a number that no character has.
        """
        if np.ndim(x) == 3:
            x = check_samples(x, self.shape).argmax(axis=-1)
        rows = [itertools.takewhile(bool, row) for row in self._checked_codes(x).tolist()]
        return ["".join(self.characters[code - 1] for code in row) for row in rows]

    def _checked_codes(self, codes: np.ndarray) -> np.ndarray:
        codes = check_samples(codes, (self.length,), "codes")
        if codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() > len(self.characters):
            raise ValueError(
                f"codes has dtype {codes.dtype} and goes from {codes.min():g} to {codes.max():g}; it must hold whole "
                f"numbers from 0 to {len(self.characters)}, as encode gives them"
            )
        return codes
