"""The words by which people name the splits of a data set, in tables and as folders."""

import re

_WORDS = {
    "train": "train training trn tr development-train fit learn learning",
    "val": "val valid validation validate validating valida dev devel development tune tuning",
    "test": "test testing tst te holdout heldout hold-out held-out eval evaluation",
}


def _build_words() -> dict[str, str]:
    split_of_word = {}
    for split, words in _WORDS.items():
        for word in words.split():
            split_of_word[_simplify(word)] = split
    return split_of_word


def _simplify(text: str) -> str:
    """Lower case, without the endings " set", "-split", "_data" and without spaces, dashes and dots."""
    simplified = re.sub(r"[\s_.-]+", "", text.casefold())
    return re.sub(r"(set|split|data|images?|img)$", "", simplified) or simplified


_SPLIT_OF_WORD = _build_words()


def split_of_word(text: str) -> str | None:
    """Return the split that a word of a table or the name of a folder means; None if it names none.

    >>> split_of_word("TRAIN"), split_of_word("valid"), split_of_word("hold-out"), split_of_word("fold 1")
    ('train', 'val', 'test', None)
    >>> split_of_word("Test set"), split_of_word("train_images"), split_of_word("")
    ('test', 'train', None)
    """
    return _SPLIT_OF_WORD.get(_simplify(text.strip()))
