"""How many values a JSON text holds, told without parsing it: while many are parsed, everyone else waits."""

MAX_VALUES = 100_000
"""Far more than any body has that keeps to the other limits; they are parsed in some 50 ms."""

_MAX_QUOTES = 4 * MAX_VALUES
"""Of so many values and their names; more are not cut apart to look between them."""


def has_too_many_values(text: bytes) -> bool:
    """Whether there are more than `MAX_VALUES`; brackets and commas in strings do not count."""
    if _num_values(text) <= MAX_VALUES:
        return False
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > _MAX_QUOTES:
        return True
    return _num_values(b"".join(unescaped.split(b'"')[::2])) > MAX_VALUES


def _num_values(text: bytes) -> int:
    return sum(text.count(mark) for mark in (b"[", b"{", b","))
