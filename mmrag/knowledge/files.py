"""What to say of a file that is missing, or cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrag.errors import InvalidRequest
from mmrag.near_miss import near_miss


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises InvalidRequest, with the reason, where reading `path` inside fails."""
    try:
        yield
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}", param="path") from error


def missing(path: Path) -> str:
    """That there is no such file, and which there is."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"there is no file {path}{near_miss(path.name, names)}"
