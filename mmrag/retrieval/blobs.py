"""Pictures by the hash of their content, beside an index that holds only what is searched."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Protocol


class Blobs(Protocol):
    """What an object storage would have to offer. Each tenant's are apart from every other's; all calls block."""

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
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(scratch, path)
        except BaseException:  # the disk is full, say
            os.unlink(scratch)
            raise

    def get(self, tenant: str, name: str) -> bytes | None:
        try:
            return self._path(tenant, name).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, tenant: str, name: str) -> None:
        self._path(tenant, name).unlink(missing_ok=True)

    def _path(self, tenant: str, name: str) -> Path:
        # Hashed, so that no name can lead out of the folder.
        owner, blob = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in (tenant, name))
        return self._folder / owner[:32] / blob[:2] / blob
