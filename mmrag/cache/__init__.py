"""Embeddings that were computed once are not computed again: in this process, and in Redis for all of them."""

from mmrag.cache.embedding_cache import EmbeddingCache, SecondLevel, embedding_key
from mmrag.cache.redis_level import open_cache

__all__ = ["EmbeddingCache", "SecondLevel", "embedding_key", "open_cache"]
