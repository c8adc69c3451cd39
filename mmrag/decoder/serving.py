"""An engine over the configured checkpoint, in this process or leading the ranks that share it."""

from mmrag.config import DecoderConfig
from mmrag.decoder.checkpoint import find_checkpoint
from mmrag.decoder.engine import Engine
from mmrag.decoder.group import Group
from mmrag.decoder.inputs import InputBuilder
from mmrag.decoder.ranks import Leader
from mmrag.decoder.scheduler import Limits
from mmrag.decoder.tokens import load_tokenizer
from mmrag.decoder.worker import Worker


def load_engine(config: DecoderConfig, group: Group | None = None) -> Engine:
    """The engine of rank 0; the other ranks do `ranks.follow(Worker.load(config, group), group)`.

    Raises ConfigurationError when the checkpoint cannot be used.
    """
    worker = Worker.load(config, group)
    inputs = InputBuilder(load_tokenizer(find_checkpoint(config.model)), worker.model.config, config.max_passage_tokens)
    limits = Limits(
        max_rows=config.max_batch,
        max_waiting=config.max_queued_requests,
        memory_bytes=config.memory_bytes,
        prefill_tokens=config.prefill_tokens,
    )
    return Engine(worker if group is None else Leader(worker, group), inputs, limits, config.max_new_tokens)
