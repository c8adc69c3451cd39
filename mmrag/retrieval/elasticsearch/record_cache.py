"""Records that were read lately, so that a search that finds them again need not read them again."""

from collections import OrderedDict

from mmrag.retrieval.elasticsearch.records import Record, head_of

MAX_RECORDS = 4_096
"""About 5 kB each."""


class RecordCache:
    """Documents of one record by its id, the least recently used of which leave first.

    Every search says which content it found, by its hash: what was read for another content is not given again, so
    nothing here is ever out of date. Documents of several records are not kept: one hash does not vouch for all.
    """

    def __init__(self, max_records: int = MAX_RECORDS):
        self._max_records = max_records
        self._records: OrderedDict[str, Record] = OrderedDict()

    def get(self, key: str, content_hash: str | None) -> Record | None:
        """The record, if its content is still this."""
        record = self._records.get(key)
        if record is None or content_hash is None or head_of(record).content_hash != content_hash:
            return None
        self._records.move_to_end(key)
        return record

    def keep(self, records: dict[str, Record]) -> None:
        """Keep those of these that are documents of one record."""
        self._records |= {key: record for key, record in records.items() if record.get("num_records") == 1}
        while len(self._records) > self._max_records:
            self._records.popitem(last=False)
