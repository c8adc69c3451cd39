"""The bodies of the HTTP API: what a caller may send, and what comes back. OpenAPI shows these models."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticKnownError

from mmrag.config import Limits
from mmrag.types import DEFAULT_NEW_TOKENS
from mmrag.validation import MAX_METADATA_FIELDS, MAX_METADATA_VALUES, MAX_STOPS

MAX_FIELDS = 32
"""More fields than any body has: an object with very many is refused without a look at each."""

_LIMITS = Limits()


def _few(max_entries: int):
    def check(value: Any) -> Any:
        if isinstance(value, dict | list) and len(value) > max_entries:
            found = {"field_type": type(value).__name__, "max_length": max_entries, "actual_length": len(value)}
            raise PydanticKnownError("too_long", found)
        return value

    return check


def _at_most(max_items: int) -> Any:
    # The first bad item ends the check: a long list of bad ones must not become a longer list of complaints.
    return Field(max_length=max_items, fail_fast=True)


DataUri = Annotated[str, Field(description='an image as "data:image/png;base64,…" (PNG, JPEG, WebP or GIF)')]
Scalar = str | int | float | bool
Labels = Annotated[list[str], _at_most(_LIMITS.max_labels)]
Stops = Annotated[list[str], _at_most(MAX_STOPS)]
Values = Annotated[list[str], _at_most(MAX_METADATA_VALUES)]
Metadata = Annotated[dict[str, Scalar | Values], BeforeValidator(_few(MAX_METADATA_FIELDS))]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    _few_fields = model_validator(mode="before")(_few(MAX_FIELDS))


class SearchBody(_Request):
    """What to look for: a text, an image, or both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "a red flag with a white cross", "top_k": 3}]})

    text: str | None = Field(None, description="the question, or a description of what is wanted")
    image: DataUri | None = None
    top_k: int = Field(5, description="how many passages to return")
    filters: Metadata = Field({}, description="metadata field -> wanted value, or a list of which one must match")


class AnswerBody(SearchBody):
    """A question: a text, an image, or both."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "What is the capital of Peru?"},
                {"text": "What do people pay with here?", "image": "data:image/png;base64,iVBORw0KGgo…"},
                {"text": "On which continent?", "task": "classify", "labels": ["Europe", "Asia"], "top_k": 3},
            ]
        }
    )

    top_k: int = Field(5, description="how many passages to return; decoder.max_passages of them, the first, are read")
    task: Literal["answer", "caption", "classify"] = "answer"
    labels: Labels = Field([], description="classify: choose among these instead of the trained labels")
    stream: bool = Field(False, description="answer with server-sent events: `token`s, then `answer`")
    explain: bool | Literal["loo"] = Field(
        False, description='say what each word of the answer rests on; "loo": also the answer without each passage'
    )
    max_new_tokens: int | None = Field(
        None, description=f"the longest answer, in tokens; else {DEFAULT_NEW_TOKENS}, or fewer where fewer are allowed"
    )
    temperature: float = Field(0.0, description="0: the likeliest words; up to 2: drawn, the more freely the higher")
    sampling_top_k: int = Field(0, description="draw among so many of the likeliest tokens; 0 for all")
    top_p: float = Field(1.0, description="draw among the fewest tokens that have this much probability together")
    seed: int | None = Field(None, description="the same seed draws the same answer")
    stop: Stops = Field([], description="strings that end the answer and do not belong to it")


class EmbeddingsBody(_Request):
    """OpenAI's embeddings request; an input that is an image data URI is embedded as an image."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": ["a text", "another"], "model": "mmrag"}]})

    input: str | Annotated[list[str], _at_most(_LIMITS.max_inputs)]
    model: str | None = Field(None, description="taken for compatibility: there is one model")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="must be the model's own, where given")
    user: str | None = None


class DocumentBody(_Request):
    """One document of the knowledge base; the same id replaces what was there."""

    id: str
    title: str = ""
    text: str = ""
    images: Annotated[list[DataUri], _at_most(_LIMITS.max_images_per_document)] = []
    labels: Labels = []
    metadata: Metadata = {}


class DocumentsBody(_Request):
    """Documents to write: all of them, or none when one cannot be taken."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "documents": [
                        {
                            "id": "country-zubrovia",
                            "title": "Zubrovia",
                            "text": "Zubrovia is a country in Europe. Its capital is Lutzport.",
                            "labels": ["country"],
                            "metadata": {"continent": "Europe"},
                        }
                    ]
                }
            ]
        }
    )

    # Each bad document is looked at anew to name all that are bad: their number is the first thing to check.
    documents: Annotated[
        list[DocumentBody], _at_most(_LIMITS.max_documents), BeforeValidator(_few(_LIMITS.max_documents))
    ]


class PassageView(BaseModel):
    """A retrieved piece of a document. `branches`: its rank in each retrieval branch that found it."""

    id: str
    document_id: str
    title: str
    text: str
    image_url: str | None
    score: float
    branches: dict[str, int]
    similarities: dict[str, float] = Field(description="what each branch measures between query and passage")
    start: int = Field(description="where the passage begins in the document's text, in characters")
    end: int
    labels: list[str]
    metadata: dict[str, Any]


class LabelView(BaseModel):
    label: str
    score: float


class AttributionView(BaseModel):
    """What the answer rests on: shares of each passage, whole and by token. `kind`: what a share is of: "copied"
    probability, or attention where a model does not copy. `without`: the answer without each passage, for "loo"."""

    passages: dict[str, float]
    tokens: list[dict[str, Any]]
    regions: list[list[float]] | None = None
    kind: Literal["copied", "attended"]
    without: dict[str, str] | None = None


class AnswerView(BaseModel):
    """An answer with its evidence. `degraded` names what was missing when it was made."""

    id: str
    answer: str
    finish_reason: Literal["stop", "length"]
    labels: list[LabelView] | None = None
    passages: list[PassageView]
    attribution: AttributionView | None = None
    degraded: list[str]
    timings_ms: dict[str, float]


class SearchView(BaseModel):
    passages: list[PassageView]
    degraded: list[str]
    timings_ms: dict[str, float]


class EmbeddingView(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsView(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingView]
    model: str
    usage: dict[str, int]


class IngestView(BaseModel):
    """What was written, in documents, passages and images."""

    upserted: int
    unchanged: int
    passages: int
    images: int


class DocumentView(BaseModel):
    id: str
    title: str
    text: str
    images: list[str] = Field(description="the addresses of its pictures")
    labels: list[str]
    metadata: dict[str, Any]


class DeletedView(BaseModel):
    id: str
    deleted: bool


class ReadyView(BaseModel):
    ready: bool
    components: dict[str, str]


class ErrorDetail(BaseModel):
    """`param` is the field at fault, as a dotted path, where there is one."""

    type: str
    message: str
    param: str | None = None


class ErrorView(BaseModel):
    error: ErrorDetail
