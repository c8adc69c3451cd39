"""Records that were read lately, so that a search that finds them again need not read them again."""

from collections import OrderedDict
from collections.abc import Iterable

import orjson

from mmrag.retrieval.elasticsearch.records import Record, head_of

MAX_BYTES = 32 * 2**20
"""Of records as JSON: about 5 kB each."""


class RecordCache:
    """Documents of one record by its id, the least recently used of which leave first.

    Every search says which content it found, by its hash: what was read for another content is not given again, so
    what comes from here is as fresh as the search that found it. Documents of several records are not kept: they
    change in steps.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._records: OrderedDict[str, tuple[Record, int]] = OrderedDict()

    def get(self, key: str, content_hash: str | None) -> Record | None:
        """The record, if its content is still this."""
        record, _ = self._records.get(key, (None, 0))
        if record is None or content_hash is None or head_of(record).content_hash != content_hash:
            return None
        self._records.move_to_end(key)
        return record

    def keep(self, records: dict[str, Record]) -> None:
        """Keep those of these that are documents of one record."""
        self.drop(records)
        for key, record in records.items():
            if record.get("num_records") == 1 and (num_bytes := len(orjson.dumps(record))) <= self._max_bytes:
                self._records[key] = (record, num_bytes)
                self._num_bytes += num_bytes
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= self._records.popitem(last=False)[1][1]

    def drop(self, keys: Iterable[str]) -> None:
        """Forget these."""
        for key in keys:
            if found := self._records.pop(key, None):
                self._num_bytes -= found[1]

    def clear(self) -> None:
        """Forget all: the index is another."""
        self._records.clear()
        self._num_bytes = 0
