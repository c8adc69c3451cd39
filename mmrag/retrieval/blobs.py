"""Pictures by the hash of their content, beside an index that holds only what is searched."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from mmrag.errors import Unavailable


class Blobs(Protocol):
    """What an object storage would have to offer. Each tenant's are apart from every other's; all calls block.

    Every method may raise Unavailable.
    """

    def put(self, tenant: str, name: str, content: bytes) -> None:
        """Keep it; what is there already is left alone."""

    def get(self, tenant: str, name: str) -> bytes | None:
        """None where there is none."""

    def delete(self, tenant: str, name: str) -> None:
        """Nothing happens where there is none."""


class FileBlobs:
    """Blobs as files below one folder. A file appears whole or not at all, whoever writes it at the same time."""

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)

    def put(self, tenant: str, name: str, content: bytes) -> None:
        path = self._path(tenant, name)
        with self._disk():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, content)

    def get(self, tenant: str, name: str) -> bytes | None:
        with self._disk():
            try:
                return self._path(tenant, name).read_bytes()
            except FileNotFoundError:
                return None

    def delete(self, tenant: str, name: str) -> None:
        with self._disk():
            self._path(tenant, name).unlink(missing_ok=True)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"the folder of the pictures cannot be used: {error.strerror}") from error

    def _path(self, tenant: str, name: str) -> Path:
        # Hashed, so that no name can lead out of the folder.
        owner, blob = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in (tenant, name))
        return self._folder / owner[:32] / blob[:2] / blob


def _write(path: Path, content: bytes) -> None:
    descriptor, scratch = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(scratch, path)
    except BaseException:  # the disk is full, say
        os.unlink(scratch)
        raise
