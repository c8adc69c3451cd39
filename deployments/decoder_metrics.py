"""What an operator watches of a decoding engine, beside `deployments.metrics`: each replica tells of its own."""

import threading
import time
from collections.abc import Callable
from typing import Any

from ray.serve import metrics as ray_metrics

from deployments.metrics import PUBLISH_PERIOD_S


class DecoderMetrics:
    """Counts of this replica's engine.

    Args:
        stats: how it is doing now, see `mmrag.decoder.stats.Stats.as_dict`; called in a thread.
        meters: where Counter and Gauge come from.
    """

    def __init__(self, stats: Callable[[], dict[str, float]], meters: Any = ray_metrics):
        self._stats = stats
        self._counted: dict[str, float] = {}
        self._gauges = {
            "num_running": meters.Gauge("mmrag_decoder_running_sequences", "Being written"),
            "num_reading": meters.Gauge("mmrag_decoder_prefilling_sequences", "Whose evidence is being read"),
            "num_waiting": meters.Gauge("mmrag_decoder_waiting_sequences", "In the queue"),
            "memory_bytes": meters.Gauge("mmrag_decoder_kv_cache_bytes", "Keys and values spoken for"),
        }
        self._counters = {
            "num_tokens": meters.Counter("mmrag_decoder_generated_tokens", "Tokens written"),
            "num_finished": meters.Counter("mmrag_decoder_finished", "Requests answered"),
            "num_cancelled": meters.Counter("mmrag_decoder_cancelled", "Requests nobody waited for any more"),
            "num_expired": meters.Counter("mmrag_decoder_expired", "Requests whose time was over"),
            "num_steps": meters.Counter("mmrag_decoder_steps", "Steps of the model"),
            "num_row_steps": meters.Counter("mmrag_decoder_sequence_steps", "Sequences in each step, added up"),
        }

    def start(self) -> None:
        """Publish from now on, in a thread: also while the replica is busy, or has never been asked."""
        threading.Thread(target=self._publish_for_ever, name="decoder-metrics", daemon=True).start()

    def publish(self) -> None:
        """How it is now, and what has been counted since this was last called."""
        stats = self._stats()
        for name, gauge in self._gauges.items():
            gauge.set(stats[name])
        for name, counter in self._counters.items():
            if new := stats[name] - self._counted.get(name, 0):
                counter.inc(new)
        self._counted = stats

    def _publish_for_ever(self) -> None:
        while True:
            self.publish()
            time.sleep(PUBLISH_PERIOD_S)
