"""Versions of the index, and the aliases that point at the one to be used.

`mmrag-v3` is the third version of the index `mmrag`. Services with the same models share an alias whose name is made
from their models' fingerprint, so a service searches only among embeddings that it can compare with its own, also
while another version is being built for other models, and after. The alias `mmrag` points at the newest version.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from elasticsearch import ApiError

from mmrag.config import ElasticsearchConfig
from mmrag.errors import ConfigurationError
from mmrag.retrieval.elasticsearch import mapping
from mmrag.retrieval.elasticsearch.connection import Connection

Written = TypeVar("Written")

_WHAT = "*.aliases,*.mappings._meta,*.mappings.properties.text_vector.dims"


@dataclass(frozen=True, slots=True)
class Version:
    """One index; `dimension` is None as long as no embedding has been written."""

    name: str
    aliases: frozenset[str]
    meta: dict[str, Any]
    dimension: int | None

    @property
    def names(self) -> frozenset[str]:
        """All that it can be called."""
        return self.aliases | {self.name}

    def takes(self, dimension: int | None) -> bool:
        """Whether what has embeddings of this size (None: has none) can be written to it."""
        return dimension is None or self.dimension in (None, dimension)

    @property
    def number(self) -> int:
        """Later versions have higher ones."""
        return int(self.name.rpartition("-v")[2])


class Versions:
    """Finds, makes and swaps versions for services whose models have this fingerprint (None: whatever is newest).

    Attributes:
        alias: what to send requests to. Where one `version` is named, that version.
        on_forget: called when the version in use may have become another.
    """

    def __init__(
        self, connection: Connection, config: ElasticsearchConfig, fingerprint: str | None, version: str | None = None
    ):
        self.fingerprint = fingerprint
        self.alias = config.index
        if version is not None:
            self.alias = version
        elif fingerprint is not None:
            self.alias += f"-of-{hashlib.sha256(fingerprint.encode()).hexdigest()[:12]}"
        self._connection = connection
        self._config = config
        self._current: Version | None = None
        self.on_forget: Callable[[], None] = lambda: None

    async def current(self) -> Version | None:
        """The version in use; None where nothing has ever been written.

        Raises:
            ConfigurationError: what is there is of other models.
        """
        if self._current is None or self._current.dimension is None:
            versions = await self.all()
            self._current = next((version for version in versions if self.alias in version.names), None)
            await self._check(versions)
        return self._current

    def forget(self) -> None:
        """Look again before the next use."""
        self._current = None
        self.on_forget()

    async def read(
        self, path: str, body: dict[str, Any], params: dict[str, Any] | None = None, budget_s: float | None = None,
        name: str | None = None,
    ) -> dict[str, Any] | None:  # fmt: skip
        """What the version in use answers, or the one named; None where it was deleted: the next use looks again."""
        try:
            return await self._connection.call("POST", f"/{name or self.alias}/{path}", body, params, budget_s)
        except ApiError as error:
            if error.status_code != 404:
                raise
            self.forget()
            return None

    async def writable(self, dimension: int | None) -> Version:
        """The version in use, made where it is missing, ready for embeddings of this size.

        Raises:
            ConfigurationError: what is there is of other models.
        """
        version = await self.current()
        if version is not None and not version.takes(dimension):
            self.forget()  # it may be another by now
            version = await self.current()
        if version is None or not version.takes(dimension):
            if version is not None and await self.count(version.name):
                raise ConfigurationError(_other_models(self._config, "dimension", version.dimension, dimension))
            version = await self.create(dimension, is_used=True)
        elif version.dimension is None and dimension is not None:
            fields = {"properties": mapping.vector_fields(self._config, dimension)}
            path = f"/{version.name}/_mapping"
            await self._connection.call("PUT", path, fields, None, self._config.write_timeout_s)
            self.forget()
            version = await self.current()
            assert version is not None
        return version

    async def set_refresh(self, interval: str) -> bool:
        """How often what was written to the version in use becomes searchable; False where it was deleted."""
        settings = {"index": {"refresh_interval": interval}}
        try:
            await self._connection.call("PUT", f"/{self.alias}/_settings", settings, None, self._config.write_timeout_s)
        except ApiError as error:
            if error.status_code != 404:
                raise
            self.forget()
            return False
        return True

    async def in_one(self, takes_steps: bool, write: Callable[[], Awaitable[Written]]) -> Written:
        """Write, once more where versions were swapped between its steps: the next may not have those before."""
        version = await self.current()
        written = await write()
        if takes_steps and not await self._is_in_use(version):
            self.forget()
            written = await write()
        return written

    async def _is_in_use(self, version: Version | None) -> bool:
        names = {one.name for one in await self.all() if self.alias in one.names}
        return version is not None and version.name in names

    async def all(self) -> list[Version]:
        """Every version, oldest first."""
        path = f"/{self._config.index}-v*"
        found = await self._connection.call("GET", path, params={"filter_path": _WHAT, "expand_wildcards": "open"})
        versions = [_version(name, state) for name, state in (found or {}).items()]
        return sorted(versions, key=lambda version: version.number)

    async def create(self, dimension: int | None, is_used: bool) -> Version:
        """Make the next version; if `is_used`, for use at once."""
        versions = await self.all()
        name = f"{self._config.index}-v{versions[-1].number + 1 if versions else 1}"
        body = mapping.new_index(self._config, self.fingerprint, dimension)
        if not versions and is_used:
            body["aliases"] = {alias: {} for alias in {self.alias, self._config.index}}
        try:
            # A node may be away, and its replica with it: what counts is the primary.
            params = {"wait_for_active_shards": "1"}
            await self._connection.call("PUT", f"/{name}", body, params, self._config.write_timeout_s)
            if versions and is_used:
                await self.use(name)
        except ApiError as error:
            if error.error != "resource_already_exists_exception":
                raise  # else another process was faster
        self.forget()
        if is_used and (current := await self.current()):
            return current
        return next(version for version in await self.all() if version.name == name)

    async def use(self, name: str, *others: dict[str, Any]) -> None:
        """Point the aliases at this version, and do `others`: all at once, so that no reader finds none."""
        aliases = {self.alias, self._config.index}
        everywhere = f"{self._config.index}-v*"
        remove = [{"remove": {"index": everywhere, "alias": alias, "must_exist": False}} for alias in aliases]
        add = [{"add": {"index": name, "alias": alias}} for alias in aliases]
        actions = {"actions": [*remove, *add, *others]}
        await self._connection.call("POST", "/_aliases", actions, None, self._config.write_timeout_s)
        self.forget()

    async def delete(self, name: str) -> None:
        """Delete a version."""
        await self._connection.call(
            "DELETE", f"/{name}", None, {"ignore_unavailable": "true"}, self._config.write_timeout_s
        )

    async def count(self, name: str, query: dict[str, Any] | None = None) -> int:
        """How many documents of all tenants, or of those that `query` selects, are in an index; 0: it is gone."""
        every = [{"exists": {"field": "num_records"}}, *([query] if query else [])]
        found = await self.read("_count", {"query": {"bool": {"filter": every}}}, name=name)
        return found["count"] if found else 0

    async def _check(self, versions: list[Version]) -> None:
        # An empty version takes any models; so does a knowledge base whose other versions are empty.
        others = [version for version in versions if version.aliases and self.alias not in version.names]
        if self.fingerprint is None or not others or "-v" in self.alias:
            return
        newest = others[-1]
        is_ours_empty = self._current is None or not await self.count(self._current.name)
        if is_ours_empty and await self.count(newest.name):
            self._current = None
            raise ConfigurationError(
                _other_models(self._config, "fingerprint", newest.meta.get("fingerprint"), self.fingerprint)
            )


def _version(name: str, state: dict[str, Any]) -> Version:
    mappings = state.get("mappings", {})
    dimension = mappings.get("properties", {}).get("text_vector", {}).get("dims")
    aliases = frozenset(alias for alias in state.get("aliases", {}) if "-held-" not in alias)
    return Version(name, aliases, mappings.get("_meta", {}), dimension)


def _other_models(config: ElasticsearchConfig, name: str, stored: object, now: object) -> str:
    return (
        f"the knowledge base {config.index!r} was embedded by other models ({name} {stored}, now {now}); serve with "
        f"those, or build a version for these: mmrag reindex"
    )
