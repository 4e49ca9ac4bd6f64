"""English sentences written from known factors: who does what to which thing, when, how many, and whether (chapter 14).

Every sentence is "the ADJECTIVE SUBJECT VERB the OBJECT". Its tense, its number and its polarity can be changed while
the rest is kept, so what a sentence should become is known to the letter. A sentence's factors are the row numbers of
the tables below; no two rows of factors give the same sentence.

>>> draw([[0, 1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0]])
['the old babies found the apple', 'the old baby does not find the apple']
"""

from collections.abc import Sequence

import numpy as np

from tfae.checks import check_seed, check_size

FACTOR_NAMES = ("tense", "number", "polarity", "adjective", "subject", "verb", "object")
ATTRIBUTES = {
    "tense": ("past", "present", "future"),
    "number": ("singular", "plural"),
    "polarity": ("affirmative", "negated"),
}

# Past and present, singular and plural must differ: so no "put" and no "sheep".
_WORDS = {
    "adjective": "old tall kind young happy proud tired quiet brave small",
    "subject": (
        "baby boy girl man woman child cook baker doctor farmer sailor king queen thief spy witch lady dog cat fox "
        "wolf mouse goose nurse"
    ),
    "verb": "find lose hide sell buy see take bring keep steal draw throw catch choose like want carry drop watch miss",
    "object": "apple ball book box bread brush cake coin cup flag hat key knife lamp map ring rope shoe stone sword",
}
_CONTENT = {name: tuple(words.split()) for name, words in _WORDS.items()}
LEVELS = ATTRIBUTES | _CONTENT  # factor: what its values stand for

_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "thief": "thieves", "wolf": "wolves", "mouse": "mice",
    "goose": "geese",
}  # fmt: skip
_PASTS = {
    "find": "found", "lose": "lost", "hide": "hid", "sell": "sold", "buy": "bought", "see": "saw", "take": "took",
    "bring": "brought", "keep": "kept", "steal": "stole", "draw": "drew", "throw": "threw", "catch": "caught",
    "choose": "chose", "drop": "dropped",
}  # fmt: skip

N_CONTENTS = int(np.prod([len(words) for words in _CONTENT.values()]))  # 96,000, each in 12 forms


def sample_factors(n: int, *, seed: int = 0) -> np.ndarray:
    """Draw `n` rows of factors, no two of them with the same adjective, subject, verb and object.

    So any split of the rows is a split by content: a held-out sentence has no other form among the rest. Each of its
    words, and each three of them, may well be there.

    Parameters
    ----------
    n : int
        At most `N_CONTENTS`.
    seed : int

    Returns
    -------
    ndarray of int64, shape (n, 7)
        Columns as in `FACTOR_NAMES`, values as in `LEVELS`.

    Raises
    ------
    ValueError
        If `n` is not a whole number between 1 and `N_CONTENTS`, or `seed` is out of range.
    """
    if check_size(n, "n") > N_CONTENTS:
        raise ValueError(f"n is {n}, and the words make {N_CONTENTS} different contents; ask for no more")
    rng = np.random.default_rng(check_seed(seed))
    contents = np.unravel_index(rng.permutation(N_CONTENTS)[:n], [len(words) for words in _CONTENT.values()])
    forms = [rng.integers(len(values), size=n) for values in ATTRIBUTES.values()]
    return np.column_stack([*forms, *contents])


def draw(factors: Sequence[Sequence[int]] | np.ndarray) -> list[str]:
    """Write one sentence for each row of factors.

    Parameters
    ----------
    factors : array of whole numbers, shape (n, 7)
        As from `sample_factors`. Change a column and draw again, and you have what the sentence should become.

    Raises
    ------
    ValueError
        If `factors` has another shape or holds a value that its factor does not have; the message names both.
    """
    return [_sentence(*row) for row in _check_factors(factors)]


def make(n: int, *, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return `n` sentences and their factors, (n, 7) int64.

    See `draw` and `sample_factors`, also for what is raised. `tfae.alphabet.Alphabet` makes arrays of the sentences.
    """
    factors = sample_factors(n, seed=seed)
    return draw(factors), factors


def _check_factors(factors: Sequence[Sequence[int]] | np.ndarray) -> list[list[int]]:
    table = np.asarray(factors)
    if table.ndim != 2 or table.shape[1] != len(FACTOR_NAMES) or table.dtype.kind not in "biuf":
        raise ValueError(
            f"factors has shape {table.shape} and dtype {table.dtype}; it must hold whole numbers, "
            f"(n, {len(FACTOR_NAMES)}): {', '.join(FACTOR_NAMES)}"
        )
    for name, column in zip(FACTOR_NAMES, table.T, strict=True):
        wrong = np.flatnonzero(~np.isin(column, np.arange(len(LEVELS[name]))))
        if len(wrong):
            raise ValueError(
                f"{name} of row {wrong[0]} is {column[wrong[0]]}; it must be a whole number from 0 to "
                f"{len(LEVELS[name]) - 1}"
            )
    return table.astype(np.int64).tolist()


def _sentence(tense: int, number: int, polarity: int, adjective: int, subject: int, verb: int, thing: int) -> str:
    noun = _CONTENT["subject"][subject]
    noun = _plural(noun) if number else noun
    done = _verb_group(_CONTENT["verb"][verb], ATTRIBUTES["tense"][tense], plural=bool(number), negated=bool(polarity))
    return f"the {_CONTENT['adjective'][adjective]} {noun} {done} the {_CONTENT['object'][thing]}"


def _verb_group(verb: str, tense: str, *, plural: bool, negated: bool) -> str:
    if tense == "future":
        return f"will not {verb}" if negated else f"will {verb}"
    if tense == "past":
        return f"did not {verb}" if negated else _past(verb)
    if negated:
        return f"do not {verb}" if plural else f"does not {verb}"
    return verb if plural else _with_s(verb)


def _past(verb: str) -> str:
    if verb in _PASTS:
        return _PASTS[verb]
    if verb.endswith("y"):
        return f"{verb[:-1]}ied"
    return f"{verb}d" if verb.endswith("e") else f"{verb}ed"


def _plural(noun: str) -> str:
    return _PLURALS.get(noun) or _with_s(noun)


def _with_s(word: str) -> str:
    """Return the plural of a regular noun, or a verb as it follows he, she and it."""
    if word.endswith(("s", "x", "sh", "ch")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
