"""The HTTP API: routes over a `mmrag.pipeline.Pipeline`. Knows nothing of Ray."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import Response

from deployments import docs_page, http_errors, schema, web_page
from deployments.access import Access
from deployments.admission import Admission
from deployments.event_stream import EventStream
from deployments.openapi import describe
from deployments.queries import read_documents, read_inputs, read_query
from deployments.rendering import embeddings_view, json_response
from deployments.token_count import TokenCount
from mmrag.config import AppConfig
from mmrag.errors import InvalidRequest
from mmrag.pipeline import Pipeline
from mmrag.types import StoredImage
from mmrag.views import answer_view, document_view, ingest_view, search_view

MAX_REQUESTS = 512
MAX_ARRIVING = 512
"""Bodies of one caller that may be on the way at a time; a burst of quick ones must not be taken for slow ones."""

MAX_BODIES = 16
"""Bodies of the largest allowed size that may be in memory at a time."""

EMBEDDING_WAITS = 3
"""Programs embed, people ask: embeddings may wait this many times as long as questions."""

States = Callable[[], Awaitable[dict[str, str]]]
"""Component -> "ok", or what is wrong with it."""


def create_app(pipeline: Pipeline, states: States, config: AppConfig) -> FastAPI:
    """The ASGI application that serves `pipeline`; /readyz tells the `states` of its components."""
    limits = config.limits
    bounds = {"max_requests": MAX_REQUESTS, "max_bytes": MAX_BODIES * limits.max_request_bytes}
    waits = {"/v1/answer": 1, "/v1/search": 1, "/v1/embeddings": EMBEDDING_WAITS}
    max_wait_s = {path: num_waits * limits.max_wait_s for path, num_waits in waits.items()}
    access = Access(config.access)
    admission = Middleware(
        Admission, **bounds, max_arriving=MAX_ARRIVING, max_wait_s=max_wait_s, caller_of=access.caller
    )
    # FastAPI's own pages of documentation load scripts from elsewhere.
    pages = {"docs_url": None, "redoc_url": None}
    app = FastAPI(title="mmrag", version="1", redirect_slashes=False, middleware=[admission], **pages)
    http_errors.install(app)
    _add_questions(app, pipeline, access, config)
    _add_documents(app, pipeline, access, config)
    _add_health(app, states)
    web_page.add(app)
    docs_page.add(app)
    describe(app)
    return app


def _add_questions(app: FastAPI, pipeline: Pipeline, access: Access, config: AppConfig) -> None:
    limits, model = config.limits, config.text_encoder.model
    count_tokens = TokenCount(config.text_encoder)

    @app.post("/v1/answer", responses={200: {"model": schema.AnswerView}}, tags=["ask"])
    async def answer(request: Request) -> Response:
        """Answer a question from the knowledge base, with the evidence."""
        tenant = access.tenant(request.headers)
        query, is_streamed = await read_query(request, schema.AnswerBody, tenant, limits)
        if is_streamed:
            return await EventStream.start(pipeline.stream(query))
        return json_response(answer_view(await pipeline.answer(query)))

    @app.post("/v1/search", responses={200: {"model": schema.SearchView}}, tags=["ask"])
    async def search(request: Request) -> Response:
        """Find passages, without an answer."""
        query, _ = await read_query(request, schema.SearchBody, access.tenant(request.headers), limits)
        return json_response(search_view(await pipeline.search(query)))

    @app.post("/v1/embeddings", responses={200: {"model": schema.EmbeddingsView}}, tags=["openai"])
    async def embeddings(request: Request) -> Response:
        """Embed texts and images (as data URIs) into one space, in OpenAI's shape."""
        access.tenant(request.headers)
        inputs, body = await read_inputs(request, limits)
        found = await pipeline.embed(inputs)
        num_tokens = await count_tokens(inputs)
        if body.dimensions not in (None, found.shape[1]):
            raise InvalidRequest(f"the embeddings have {found.shape[1]} dimensions", param="dimensions")
        return json_response(embeddings_view(found, model, body.encoding_format, num_tokens))

    @app.get("/v1/models", tags=["openai"])
    async def models(request: Request) -> Response:
        """The one embedding model, in OpenAI's shape."""
        access.tenant(request.headers)
        listed = {"id": model, "object": "model", "created": 0, "owned_by": "mmrag"}
        return json_response({"object": "list", "data": [listed]})


def _add_documents(app: FastAPI, pipeline: Pipeline, access: Access, config: AppConfig) -> None:
    @app.post("/v1/documents", responses={200: {"model": schema.IngestView}}, tags=["documents"])
    async def upsert(request: Request) -> Response:
        """Write documents, searchable when this returns: all of them, or none where one is refused."""
        tenant = access.tenant(request.headers)
        documents = await read_documents(request, config.limits)
        return json_response(ingest_view(await pipeline.upsert(tenant, documents)))

    @app.get("/v1/documents/{document_id:path}", responses={200: {"model": schema.DocumentView}}, tags=["documents"])
    async def get(request: Request, document_id: str) -> Response:
        """A document as it is stored; its pictures by their addresses."""
        return json_response(document_view(await pipeline.get(access.tenant(request.headers), document_id)))

    @app.delete("/v1/documents/{document_id:path}", responses={200: {"model": schema.DeletedView}}, tags=["documents"])
    async def delete(request: Request, document_id: str) -> Response:
        """Delete a document; no search finds it when this returns."""
        await pipeline.delete(access.tenant(request.headers), document_id)
        return json_response({"id": document_id, "deleted": True})

    @app.get("/v1/images/{image_id}", tags=["documents"])
    async def image(request: Request, image_id: str) -> Response:
        """A picture of the knowledge base, as it was given."""
        stored = await pipeline.image(access.tenant(request.headers), image_id)
        return _image_response(stored, request.headers.get("if-none-match"))


def _add_health(app: FastAPI, states: States) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> Response:
        """The ingress is alive."""
        return json_response({"status": "ok"})

    @app.get("/readyz", responses={200: {"model": schema.ReadyView}, 503: {"model": schema.ReadyView}}, tags=["health"])
    async def readyz() -> Response:
        """Every component answers."""
        components = await states()
        is_ready = all(state == "ok" for state in components.values())
        return json_response({"ready": is_ready, "components": components}, 200 if is_ready else 503)


def _image_response(stored: StoredImage, known_tag: str | None) -> Response:
    tag = f'"{stored.id}"'
    headers: dict[str, Any] = {
        "etag": tag,
        # The bytes behind an id never change; who may see them depends on the key.
        "cache-control": "private, max-age=31536000, immutable",
        "vary": "authorization, x-api-key",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if known_tag == tag:
        return Response(status_code=304, headers=headers)
    return Response(stored.content, headers=headers, media_type=stored.media_type)
