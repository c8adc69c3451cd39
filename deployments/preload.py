"""Documents that are in the knowledge base from the first start on, as the demo's are."""

import hashlib
import subprocess
import sys
from pathlib import Path

from mmrag.errors import ConfigurationError


def is_loaded(source: Path, store_path: Path) -> bool:
    """Whether the file was put into the store wholly, as it is now.

    Raises:
        ConfigurationError: there is no such file.
    """
    if not source.is_file():
        raise ConfigurationError(f"retriever.preload: there is no file {source}")
    note = _note(store_path)
    return store_path.exists() and note.exists() and note.read_text() == _version(source)


def load(source: Path, store_path: Path, config_path: Path) -> None:
    """`ingest` into the embedded store, noted beside it."""
    ingest(source, config_path)
    store_path.parent.mkdir(parents=True, exist_ok=True)
    _note(store_path).write_text(_version(source))


def ingest(source: Path, config_path: Path) -> None:
    """Put it into the store, with a progress bar; what is there already, and unchanged, is not written again.

    Raises:
        ConfigurationError: it could not be put there wholly, and why is said above.
    """
    command = [sys.executable, "-m", "mmrag.cli", "ingest", str(source), "--local", "--config", str(config_path)]
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
        mend = "mend what is said above and start again, or take retriever.preload out of the configuration"
        raise ConfigurationError(f"{source} was not ingested wholly: {mend}")


def _note(store_path: Path) -> Path:
    return store_path.with_name(f"{store_path.name}.preloaded")


def _version(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()
