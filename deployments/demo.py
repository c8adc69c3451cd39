"""The demo's knowledge: whoever serves the repository's own configuration finds the atlas in it."""

import hashlib
import subprocess
import sys
from pathlib import Path

KNOWLEDGE = Path("atlas/knowledge.jsonl")


def needs_atlas(config_path: Path, store_path: Path) -> bool:
    """Whether an atlas lies beside the configuration that is not, or not wholly, in the store."""
    source = config_path.parent / KNOWLEDGE
    note = _note(store_path)
    return source.is_file() and not (store_path.exists() and note.exists() and note.read_text() == _version(source))


def ingest_atlas(config_path: Path, store_path: Path) -> None:
    """Ingest it; what an interrupted ingest has done is not done again.

    Raises:
        subprocess.CalledProcessError: it failed, and has said why.
    """
    source = config_path.parent / KNOWLEDGE
    command = [sys.executable, "-m", "mmrag.cli", "ingest", str(source), "--local", "--config", str(config_path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    _note(store_path).write_text(_version(source))


def _note(store_path: Path) -> Path:
    return store_path.with_name(f"{store_path.name}.atlas")


def _version(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()
