"""The deployments by name. Imports none of them: a misspelt name is said before Ray and the models are loaded."""

from collections.abc import Iterable
from pathlib import Path

from mmrag.errors import ConfigurationError
from mmrag.near_miss import near_miss

NAMES = ("TextEncoder", "ImageEncoder", "Retriever", "FusionDecoder", "Ingress")


def check_names(names: Iterable[str], path: Path) -> None:
    """Raise ConfigurationError where one of the `deployments:` in the file `path` is not among `NAMES`."""
    for name in names:
        if name not in NAMES:
            meant = near_miss(name, NAMES) or f"; there are {', '.join(NAMES)}"
            raise ConfigurationError(f"{path}: there is no deployment {name!r}{meant}")
