"""T5's relative positions (Raffel et al. 2020): attention is told how far apart two tokens are."""

import math

import torch
from torch import Tensor, nn

from mmrag.decoder.settings import DecoderModelConfig


class RelativePositionBias(nn.Module):
    """T5's bias for the distance between two tokens: exact up to a quarter or half of the buckets, then logarithmic."""

    def __init__(self, config: DecoderModelConfig, bidirectional: bool):
        super().__init__()
        self.table = nn.Embedding(config.num_buckets, config.num_heads)
        self.bidirectional, self.max_distance = bidirectional, config.max_distance

    def forward(self, num_queries: int, num_keys: int, start: int = 0) -> Tensor:
        """Bias [1, H, num_queries, num_keys]; `start` is the position of the first query."""
        return self.backwards(num_queries, num_keys, start).flip(2).contiguous()

    def backwards(self, num_queries: int, num_keys: int, start: int = 0) -> Tensor:
        """The same with the last query first: a view of one line of numbers, which stays in the fastest cache.

        Only the distance counts, so each row of the square is the one above it, moved on by one.
        """
        first = -(start + num_queries - 1)
        distances = torch.arange(first, first + num_queries + num_keys - 1, device=self.table.weight.device)
        return self.table(self.buckets(distances)).T.contiguous().unfold(1, num_keys, 1)[None]

    def buckets(self, distance: Tensor) -> Tensor:
        """The rows of the table, int64, for distances from query to key, int64: negative before it."""
        num_buckets, offset = self.table.num_embeddings, torch.zeros_like(distance)
        if self.bidirectional:
            num_buckets //= 2
            offset = (distance > 0).long() * num_buckets
            distance = distance.abs()
        else:
            distance = -distance.clamp(max=0)
        num_exact = num_buckets // 2
        ratio = torch.log(distance.float().clamp(min=1) / num_exact) / math.log(self.max_distance / num_exact)
        far = (num_exact + (ratio * (num_buckets - num_exact)).long()).clamp(max=num_buckets - 1)
        return offset + torch.where(distance < num_exact, distance, far)
