"""Finding the evidence: stores, branches and their fusion."""

from mmrag.config import RetrieverConfig
from mmrag.retrieval.retriever import Retriever
from mmrag.retrieval.store import Store

__all__ = ["Retriever", "Store", "open_store"]


def open_store(config: RetrieverConfig, fingerprint: str | None = None) -> Store:
    """The store that `config` names.

    Args:
        fingerprint: names the models that the embeddings come from, both encoders together; None: not checked.

    Raises:
        ConfigurationError: it cannot be used, or holds embeddings of other models.
    """
    # Each imports what only it needs.
    if config.kind == "elasticsearch":
        from mmrag.retrieval.elasticsearch import ElasticsearchStore

        return ElasticsearchStore(config.elasticsearch, fingerprint)
    from mmrag.retrieval.sqlite import SqliteStore
    from mmrag.retrieval.threads import InThreads

    return InThreads(SqliteStore(config.path, fingerprint))
