"""Reading serve_config.yaml: what the system is, and how wide its deployments run."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mmrag.config import AppConfig
from mmrag.errors import ConfigurationError

Options = dict[str, dict[str, Any]]
"""Deployment -> its options."""


def read_config(path: Path) -> AppConfig:
    """The `args:` of the application; relative paths in it are relative to the file's folder.

    Raises:
        ConfigurationError: the file is missing, is no Serve configuration, or has an unknown key.
    """
    try:
        return AppConfig.model_validate(_application(path).get("args") or {})
    except ValidationError as error:
        raise ConfigurationError(f"the `args:` in {path} cannot be used: {error}") from error


def read_options(path: Path) -> Options:
    """The options of each of the application's deployments, by name; raises ConfigurationError."""
    try:
        entries = [dict(entry) for entry in _application(path).get("deployments") or []]
        return {entry.pop("name"): entry for entry in entries}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: each of the `deployments:` needs a name, and its options") from error


def _application(path: Path) -> dict[str, Any]:
    try:
        application = yaml.safe_load(path.read_text(encoding="utf-8"))["applications"][0]
    except OSError as error:
        hint = "run this in the project's folder, or name the file with --config"
        raise ConfigurationError(f"{path}: {error.strerror}; {hint}") from error
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise ConfigurationError(f"{path} has no `applications:` with `args:`") from error
    if not isinstance(application, dict):
        raise ConfigurationError(f"{path} has no `applications:` with `args:`")
    return application
