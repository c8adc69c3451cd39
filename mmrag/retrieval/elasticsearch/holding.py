"""Holding writes to a version back for as long as it takes to put the next in its place, and no longer than a minute.

Who holds marks the version with an alias that tells since when. Who is held back longer than that may take the mark
away, and write again: a process that died while it held does not stop writing for ever. The swap takes the mark away,
too, in the same step; where it is gone, the swap does not happen, so that no write can be lost.

A version that is held without a mark is one that was swapped away, and stays as it is; or, where it is the newest
still, one that somebody died letting go.
"""

import time
from dataclasses import dataclass
from typing import Any

from elasticsearch import ApiError

from mmrag.config import ElasticsearchConfig
from mmrag.errors import Unavailable
from mmrag.retrieval.elasticsearch.connection import Connection

MAX_HOLD_S = 60.0
HELD_BACK = "cluster_block_exception"
"""The kind of error that a write meets that is held back."""


@dataclass(frozen=True, slots=True)
class _State:
    version: str
    marks: list[str]
    is_blocked: bool
    is_newest: bool


class Holds:
    """Marks and blocks of the versions of one index."""

    def __init__(self, connection: Connection, config: ElasticsearchConfig):
        self._connection = connection
        self._marks = f"{config.index}-held-"
        self._newest = config.index
        self._budget_s = config.write_timeout_s

    async def hold(self, name: str) -> str:
        """Hold writes back; returns the mark. When this returns, no write is under way any more.

        Raises:
            Unavailable: somebody else does already.
        """
        await self.release_overdue(name)
        if (await self._state_of(name)).marks:
            raise Unavailable("another reindex is about to swap versions: try again when it has")
        mark = f"{self._marks}{int(time.time())}"
        await self._change_aliases({"add": {"index": name, "alias": mark}})
        await self._connection.call("PUT", f"/{name}/_block/write", None, None, self._budget_s)
        return mark

    async def release(self, name: str, mark: str) -> None:
        """Let writes pass; nothing happens where somebody else has done so."""
        try:
            await self._change_aliases(taking(name, mark))
        except ApiError as error:
            if error.status_code != 404:
                raise
        else:
            await self._unblock(name)

    async def release_overdue(self, name: str) -> None:
        """Let writes pass where whoever holds them back has done so for too long, and must be dead.

        Raises:
            Unavailable: they are held back for good.
        """
        state = await self._state_of(name)
        for mark in state.marks:
            if time.time() - int(mark.removeprefix(self._marks)) > MAX_HOLD_S:
                await self.release(state.version, mark)
        if state.is_blocked and not state.marks:
            if not state.is_newest:
                raise Unavailable(
                    "the knowledge base was embedded anew by other models: serve with those to write to it"
                )
            await self._unblock(state.version)

    async def _state_of(self, name: str) -> _State:
        wanted = {"filter_path": "*.aliases,*.settings.index.uuid,*.settings.index.blocks.write"}
        [(version, state)] = (await self._connection.call("GET", f"/{name}", None, wanted)).items()
        aliases = state.get("aliases", {})
        block = state.get("settings", {}).get("index", {}).get("blocks", {}).get("write")
        marks = [alias for alias in aliases if alias.startswith(self._marks)]
        return _State(version, marks, str(block).lower() == "true", self._newest in aliases)

    async def _unblock(self, name: str) -> None:
        settings = {"index": {"blocks": {"write": False}}}
        await self._connection.call("PUT", f"/{name}/_settings", settings, None, self._budget_s)

    async def _change_aliases(self, action: dict[str, Any]) -> None:
        await self._connection.call("POST", "/_aliases", {"actions": [action]}, None, self._budget_s)


def taking(name: str, mark: str) -> dict[str, Any]:
    """The action that takes a mark away, and fails where it is gone; together with others, all fail."""
    return {"remove": {"index": name, "alias": mark, "must_exist": True}}
