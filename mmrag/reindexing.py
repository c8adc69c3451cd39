"""`mmrag reindex`: the knowledge base anew, as the configuration now says, while the old one serves."""

from tqdm import tqdm

from mmrag.components import ImageEmbedder, TextEmbedder
from mmrag.config import AppConfig
from mmrag.encoders.fingerprint import embedding_fingerprint
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.errors import ConfigurationError, Unavailable
from mmrag.knowledge.ingest import Ingestor
from mmrag.knowledge.passages import Splitter
from mmrag.types import Document, EncodedDocument


class _Collected:
    """A store for the ingestor that keeps what it is given."""

    def __init__(self) -> None:
        self.documents: list[EncodedDocument] = []

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        return {}

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        self.documents += documents


class _Encoder:
    """Encodes documents as an ingest does; the models are loaded when they are first needed."""

    def __init__(self, config: AppConfig):
        self._config = config
        self._ingestor: Ingestor | None = None
        self._collected = _Collected()

    async def encode(self, tenant: str, documents: list[Document]) -> list[EncodedDocument]:
        if self._ingestor is None:
            self._ingestor = self._load()
        self._collected.documents = []
        report = await self._ingestor.add_each(tenant, documents)
        if report.refused:
            [first, *_] = report.refused
            raise Unavailable(f"the document {first.document_id!r} is stored, but cannot be encoded: {first.reason}")
        return self._collected.documents

    def _load(self) -> Ingestor:
        config = self._config
        splitter = Splitter(load_tokenizer(config.text_encoder), config.retriever.passages)
        models = TextEmbedder(config.text_encoder), ImageEmbedder(config.image_encoder)
        return Ingestor(*models, self._collected, splitter, config.limits)


async def reindex(config: AppConfig) -> str:
    """Build the next version and swap; returns in words what was done.

    Raises:
        ConfigurationError: the store has no versions, or nothing in it.
        Unavailable: it does not answer.
    """
    if config.retriever.kind != "elasticsearch":
        raise ConfigurationError(
            "only Elasticsearch is re-indexed; for the embedded store name another file (retriever.path) and ingest"
        )
    from mmrag.retrieval.elasticsearch.reindex import Reindex

    with tqdm(desc="re-indexing", unit=" documents") as bar:
        fingerprint, encode = embedding_fingerprint(config), _Encoder(config).encode
        work = Reindex(
            config.retriever.elasticsearch, fingerprint, encode, lambda report: bar.update(report.num_copied - bar.n)
        )
        report = await work.run()
    return f"{report.version} is in use: {report.num_copied:,} documents copied, {report.num_deleted:,} deleted since"
