"""Putting knowledge in: reading sources, cutting passages, encoding, writing."""

from mmrag.knowledge.ingest import Ingestor
from mmrag.knowledge.passages import Splitter
from mmrag.knowledge.sources import read_documents

__all__ = ["Ingestor", "Splitter", "read_documents"]
