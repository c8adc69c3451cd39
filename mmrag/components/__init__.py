"""Each model with a queue in front of it and a thread beneath it: the awaitable parts of a pipeline.

The same classes serve in one process (the command line, an evaluation) and inside the replicas of a cluster.
Threads keep the event loop free: inputs are prepared in one while the model computes in others.
"""

from mmrag.components.answer_decoder import AnswerDecoder
from mmrag.components.embedders import ImageEmbedder, TextEmbedder

__all__ = ["AnswerDecoder", "ImageEmbedder", "TextEmbedder"]
