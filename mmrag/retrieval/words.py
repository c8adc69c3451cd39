"""What the word branches read in a query: terms for BM25, candidates for labels."""

import re
import unicodedata

MAX_LABEL_WORDS = 8

WEIGHTS = {"title": 4.0, "labels": 2.0, "text": 1.0}
"""How often a word counts for BM25, by where it stands."""

# Words that questions are made of. They are rare in statements, so inverse document frequency takes them for
# telling ones.
_QUESTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about an and any are as at be by can could did do does for from give had has have he her here hers him his
        how i in is it its kindly know like me mean means my name of on or our please she should show some tell that
        the their them there these they this those to us was we were what whats when where which who whom whose why
        will with would you your
        """,
    )
)


def search_terms(text: str) -> list[str]:
    """The distinct words of a text, without those that every question has, unless it has no others."""
    words = list(dict.fromkeys(re.findall(r"\w+", text.casefold())))
    return [word for word in words if word not in _QUESTION_WORDS] or words


def normalise_label(label: str) -> str:
    """The form in which labels and titles are compared: no case or accents, one space between words and signs."""
    return " ".join(_tokens(label))


def label_candidates(text: str) -> list[str]:
    """Every run of up to `MAX_LABEL_WORDS` words of a text that might be a label, as `normalise_label` writes it."""
    tokens = _tokens(text)
    runs = (
        " ".join(tokens[start : start + length])
        for length in range(1, MAX_LABEL_WORDS + 1)
        for start in range(len(tokens) - length + 1)
    )
    return [run for run in dict.fromkeys(runs) if run not in _QUESTION_WORDS]


def fold(text: str) -> str:
    """The text without case and accents."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", fold(text))
