"""Reading serve_config.yaml: what the system is, and how wide its deployments run."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mmrag.config import LOCAL, LOCAL_OR_NAME, AppConfig
from mmrag.errors import ConfigurationError

Options = dict[str, dict[str, Any]]
"""Deployment -> its options."""

Section = TypeVar("Section", bound=BaseModel)


def read_config(path: Path) -> AppConfig:
    """The `args:` of the application. Paths in the file are relative to its folder; here, to the working directory.

    Raises:
        ConfigurationError: the file is missing, is no Serve configuration, or has a setting that there is not.
    """
    try:
        config = AppConfig.model_validate(_application(path).get("args") or {})
    except ValidationError as error:
        problems = [_in_words(problem) for problem in error.errors(include_url=False)]
        raise ConfigurationError(f"{path}: {'; '.join(problems)}") from error
    return config if path.parent.resolve() == Path.cwd() else _seen_from_here(config, path.parent)


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
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(_broken_yaml(path, error)) from error
    except (KeyError, IndexError, TypeError) as error:
        raise ConfigurationError(f"{path} has no `applications:` with `args:`") from error
    if not isinstance(application, dict):
        raise ConfigurationError(f"{path} has no `applications:` with `args:`")
    return application


def _broken_yaml(path: Path, error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    hint = "look there and one line above for a missing colon, space, quote or bracket, or a tab"
    return f"{path}{place}: this is not YAML: {problem or error}; {hint}"


def _in_words(problem: Any) -> str:
    *sections, name = ["args", *map(str, problem["loc"])]
    setting = ".".join([*sections, name])
    if problem["type"] == "extra_forbidden":
        return f"there is no setting {setting}{_nearest(name, '.'.join(sections))}"
    message = problem["msg"].removeprefix("Input ")
    shown = f", not {problem['input']!r:.60}" if isinstance(problem["input"], str | int | float | bool | None) else ""
    return f"{setting} {message[:1].lower()}{message[1:]}{shown}"


def _nearest(name: str, section: str) -> str:
    """The setting that was meant: in this section by a like name, or in another by the same."""
    settings = dict(_settings(AppConfig, "args"))
    here = [known for known, parent in settings.items() if parent == section]
    near = difflib.get_close_matches(f"{section}.{name}", here, n=1, cutoff=0.8)
    near = near or [known for known in settings if known.rpartition(".")[2] == name]
    if near:
        return f": did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(known.rpartition('.')[2] for known in here)}"


def _settings(section: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    """All settings by their dotted names, each with the section that it is in."""
    for name, field in section.model_fields.items():
        yield f"{path}.{name}", path
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, f"{path}.{name}")


def _seen_from_here(section: Section, folder: Path) -> Section:
    """The section with its paths, which are relative to `folder`, relative to the working directory."""
    changed: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            changed[name] = _seen_from_here(value, folder)
        elif value and (LOCAL in field.metadata or (LOCAL_OR_NAME in field.metadata and (folder / value).is_dir())):
            changed[name] = value if os.path.isabs(value) else os.path.relpath(folder / value)
    return section.model_copy(update=changed)
