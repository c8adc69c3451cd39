"""The nouns that travel through mmrag: documents go in, queries come, answers with passages go out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Task = Literal["answer", "caption", "classify"]
MetadataValue = str | int | float | bool | list[str]

Filters = Mapping[str, MetadataValue]
"""Metadata field -> wanted value, or a list of which one must match."""

DEFAULT_TENANT = "default"
"""Everybody, where nobody needs a key."""

DEFAULT_NEW_TOKENS = 64
"""The longest answer to a question that does not say how long it may be."""

Explain = bool | Literal["loo"]
"""Whether to tell what an answer rests on; "loo" also leaves out each passage in turn."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the words of an answer are chosen.

    Attributes:
        temperature: 0 takes the likeliest token; 1 draws from the model's own probabilities.
        top_k: draw among that many of the likeliest only; 0 for all.
        top_p: draw among the fewest that have this much probability together (Holtzman et al. 2020).
        seed: the same seed draws the same answer, in whatever company; None for one of its own each time.
        stop: strings that end the answer; they do not belong to it.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(slots=True)
class Document:
    """What a user puts into the knowledge base.

    Attributes:
        images: the encoded files (PNG, JPEG, WebP, GIF), in order.
        labels: short tags, matched exactly (case-insensitively) by the label branch.
        metadata: flat fields to filter on.
    """

    id: str
    title: str = ""
    text: str = ""
    images: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    metadata: dict[str, MetadataValue] = field(default_factory=dict)


@dataclass(slots=True)
class Query:
    """A question: text, an image, or both.

    Attributes:
        image: an encoded file as the user sent it; `mmrag.images.decode_image` bounds and decodes it.
        labels: for `classify`: choose among these instead of the labels the model was trained on.
        top_k: how many passages the decoder reads and the answer shows.
        filters: see `Filters`.
        max_new_tokens: None: `DEFAULT_NEW_TOKENS`, or as many as are allowed where that is less.
        tenant: put here by the server, never by the caller.
        deadline_s: `time.time()` after which nobody waits for the answer any more.
    """

    text: str | None = None
    image: bytes | None = None
    task: Task = "answer"
    labels: list[str] = field(default_factory=list)
    top_k: int = 5
    filters: dict[str, MetadataValue] = field(default_factory=dict)
    explain: Explain = False
    max_new_tokens: int | None = None
    sampling: Sampling = Sampling()
    tenant: str = DEFAULT_TENANT
    deadline_s: float | None = None


@dataclass(slots=True)
class SearchRequest:
    """A query as the retriever sees it: words and embeddings, no pixels.

    Attributes:
        text_embedding, image_embedding: float32 [dimension], L2-normalised; None where there is no such input
            or its encoder failed.
    """

    text: str | None = None
    text_embedding: np.ndarray | None = None
    image_embedding: np.ndarray | None = None
    labels: list[str] = field(default_factory=list)
    top_k: int = 5
    filters: dict[str, MetadataValue] = field(default_factory=dict)
    tenant: str = DEFAULT_TENANT
    deadline_s: float | None = None


@dataclass(slots=True)
class Passage:
    """A piece of a document that was retrieved: text, with the picture that belongs to it.

    Attributes:
        id: `document_id#index`.
        start, end: the characters of the document's text that this passage covers.
        image_id: content hash of the picture shown with the passage, None where the document has none.
        score: fused score, higher is better.
        branches: rank in each retrieval branch that found the passage, from 1.
        similarities: what each branch measures between the query and this passage: cosine for the four kNN
            branches ("text_text", "text_image", "image_image", "image_text"), for "bm25"
            and "label" (titles and labels that the query mentions) the score divided by the query's best.
            Absent where it cannot be measured.
        text_embedding, image_embedding: float16 [dimension], for the decoder's memory; not shown to users.
    """

    id: str
    document_id: str
    title: str = ""
    text: str = ""
    start: int = 0
    end: int = 0
    image_id: str | None = None
    labels: list[str] = field(default_factory=list)
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    score: float = 0.0
    branches: dict[str, int] = field(default_factory=dict)
    similarities: dict[str, float] = field(default_factory=dict)
    text_embedding: np.ndarray | None = None
    image_embedding: np.ndarray | None = None


class Evidence(list[Passage]):
    """The passages for one request, best first.

    Attributes:
        degraded: in words, which branches did not answer.
        metadata_fields: where filters left nothing: fields that there are to filter on; see `Store.metadata_fields`.
    """

    def __init__(self, passages: Iterable[Passage] = (), degraded: Iterable[str] = ()):
        super().__init__(passages)
        self.degraded = list(degraded)
        self.metadata_fields: list[str] = []


@dataclass(slots=True)
class ImageEmbeddings:
    """What the image encoder returns for n images.

    Attributes:
        embeddings: float32 [n, dimension], L2-normalised.
        grids: float16 [n, num_regions, grid_dimension], rows of the picture first.
    """

    embeddings: np.ndarray
    grids: np.ndarray


@dataclass(slots=True)
class DecodeRequest:
    """Everything the fusion decoder reads for one answer.

    Attributes:
        text_embedding, image_embedding: float32 [dimension] of the query, None where missing.
        image_grid: float16 [num_regions, grid_dimension] of the query's image, None where missing.
        passages: best first.
        question_states: float16 [num_layers, dimension], what the question is read from by decoders that want more of
            it than its embedding; see `mmrag.encoders.question`.
    """

    text: str | None
    text_embedding: np.ndarray | None
    image_embedding: np.ndarray | None
    image_grid: np.ndarray | None
    passages: list[Passage]
    task: Task = "answer"
    labels: list[str] = field(default_factory=list)
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    explain: Explain = False
    sampling: Sampling = Sampling()
    deadline_s: float | None = None
    question_states: np.ndarray | None = None


@dataclass(slots=True)
class LabelScore:
    """A label and its probability among those asked for."""

    label: str
    score: float


@dataclass(slots=True)
class Attribution:
    """What an answer rests on.

    Attributes:
        kind: "copied": the part of each token's probability that was copied from a place; "attended": attention,
            mean of heads and layers, of a model that does not copy.
        passages: passage id -> its share of the answer; shares sum to 1 at most.
        tokens: for each token of the answer: {"token": str, "passages": {id: share}, "attended": {id: share},
            "words": [{"passage", "field", "start", "end", "share"}, ...]}, words of the best passages.
        regions: for each token the attention over the query image's grid, rows of the picture first; sums to 1.
        without: for "loo": passage id -> the answer without that passage.
    """

    passages: dict[str, float] = field(default_factory=dict)
    tokens: list[dict[str, Any]] = field(default_factory=list)
    regions: list[list[float]] | None = None
    kind: Literal["copied", "attended"] = "copied"
    without: dict[str, str] | None = None


@dataclass(slots=True)
class Decoded:
    """What the decoder returns for one request; `finish_reason` is "stop" or "length".

    Attributes:
        timings_ms: "queued" until it was read, "first_token" since it was asked for, "per_token" of those after.
    """

    text: str
    labels: list[LabelScore] | None = None
    attribution: Attribution | None = None
    num_tokens: int = 0
    finish_reason: str = "stop"
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """The answer with what it rests on.

    Attributes:
        finish_reason: "stop" where it ended by itself or at a stop string, "length" where it became too long.
        degraded: what was missing when this answer was made, in words: e.g. "image_encoder: unavailable".
        timings_ms: stage -> milliseconds.
    """

    id: str
    answer: str
    passages: list[Passage]
    finish_reason: str = "stop"
    labels: list[LabelScore] | None = None
    attribution: Attribution | None = None
    degraded: list[str] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class StoredImage:
    """A picture as it lies in the store: the original bytes and their media type."""

    id: str
    content: bytes
    media_type: str


@dataclass(slots=True)
class EncodedPassage:
    """Characters `start` to `end` of a document's text; `embedding`: float [dimension], None without any words."""

    text: str
    start: int
    end: int
    embedding: np.ndarray | None


@dataclass(slots=True)
class EncodedImage:
    """A picture of a document with its embedding: float [dimension], L2-normalised."""

    image: StoredImage
    embedding: np.ndarray


@dataclass(slots=True)
class EncodedDocument:
    """A document ready to be stored: at least one passage, though its text may be empty.

    Attributes:
        content_hash: equal for equal content cut in the same way; tells whether a stored document is up to date.
    """

    document: Document
    content_hash: bytes
    passages: list[EncodedPassage]
    images: list[EncodedImage] = field(default_factory=list)


@dataclass(slots=True)
class Refusal:
    """A document that was not taken, and why."""

    document_id: str
    reason: str
    param: str | None = None


@dataclass(slots=True)
class IngestReport:
    """What an ingest did: counts of documents, and each refusal."""

    num_upserted: int = 0
    num_unchanged: int = 0
    num_passages: int = 0
    num_images: int = 0
    refused: list[Refusal] = field(default_factory=list)
