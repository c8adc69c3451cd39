"""Reading the pictures that documents name."""

from pathlib import Path

from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.images import parse_data_uri
from mmrag.knowledge.files import missing


def read_image(folder: Path, name: str, param: str, limits: Limits) -> bytes:
    """A picture named by a path inside `folder`, or given as a data URI. Raises InvalidRequest."""
    if name.startswith("data:"):
        return parse_data_uri(name, limits.max_image_bytes, param)
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise InvalidRequest(f"the image {name!r} lies outside {folder}; name it relative to there", param=param)
        if not path.is_file():
            raise InvalidRequest(missing(path), param=param)
        if path.stat().st_size > limits.max_image_bytes:
            raise TooLarge(f"the image {name!r} has more than {limits.max_image_bytes:,} bytes", param=param)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequest(f"the image {name!r:.200} cannot be read: {reason}", param=param) from error
