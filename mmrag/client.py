"""The Python client of the HTTP API, in two forms: `Client` waits, `AsyncClient` is awaited.

    client = Client("http://127.0.0.1:8000")
    client.answer("What is the capital of Peru?")["answer"]
    client.answer("What do they pay with here?", image="flag.png")
    client.upsert([{"id": "zubrovia", "title": "Zubrovia", "text": "Its capital is Lutzport."}])

Pictures are paths, bytes or data URIs; documents are `mmrag.types.Document`s or dictionaries of the same fields.

What the service refuses raises the same errors as the library: `InvalidRequest`, `NotFound`, `Overloaded`, ….
"""

import re
import urllib.parse
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from mmrag import errors
from mmrag.errors import InvalidRequest
from mmrag.knowledge.sources import read_documents
from mmrag.request_bodies import (
    DocumentLike,
    Picture,
    document_bodies,
    document_body,
    embeddings_body,
    query_body,
)
from mmrag.responses import Events, components_of, embeddings_of, error_of, json_of
from mmrag.types import IngestReport, Refusal

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 60.0
MAX_BATCH_DOCUMENTS = 32
MAX_BATCH_BYTES = 8 * 2**20


class Client:
    """Talks to a service; every method waits for its answer. Close it, or use it in a `with` statement."""

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, timeout_s: float = TIMEOUT_S):
        self._url = base_url(url)
        self._http = httpx.Client(
            base_url=self._url, headers=_headers(api_key), timeout=timeout_s, transport=_Transport()
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def answer(self, text: str | None = None, image: Picture | None = None, **fields: Any) -> dict[str, Any]:
        """The answer with its evidence. `fields`: task, labels, top_k, filters, explain, max_new_tokens, temperature,
        sampling_top_k, top_p, seed, stop."""
        return self._call("POST", "/v1/answer", query_body(text, image, fields))

    def stream(self, text: str | None = None, image: Picture | None = None, **fields: Any) -> Iterator[str | dict]:
        """The answer's text in pieces as it is written, then the whole answer."""
        body = query_body(text, image, fields) | {"stream": True}
        with _reachable(self._url), self._http.stream("POST", "/v1/answer", json=body) as response:
            if response.is_error:
                response.read()
                raise error_of(response)
            events = Events()
            for line in response.iter_lines():
                yield from events.read(line)

    def search(self, text: str | None = None, image: Picture | None = None, **fields: Any) -> dict[str, Any]:
        """The passages that an answer would be read from. `fields`: top_k, filters."""
        return self._call("POST", "/v1/search", query_body(text, image, fields))

    def embed(self, inputs: str | Picture | Iterable[str | Picture]) -> np.ndarray:
        """Texts (str) and pictures (bytes or Path) in the one space: float32 [n, dimension], L2-normalised."""
        return embeddings_of(self._call("POST", "/v1/embeddings", embeddings_body(inputs)))

    def upsert(self, documents: DocumentLike | Iterable[DocumentLike]) -> dict[str, int]:
        """Write all of the documents, or none where one is refused; searchable when this returns."""
        return self._call("POST", "/v1/documents", {"documents": document_bodies(documents)})

    def ingest(self, source: str | PathLike[str] | Iterable[DocumentLike | Refusal]) -> IngestReport:
        """Write what can be taken, in batches, and report the rest; for many documents, or what lies at a path."""
        report = IngestReport()
        if isinstance(source, str | PathLike):
            source = read_documents(Path(source))
        for batch in _batches(source, report):
            self._write(batch, report)
        return report

    def get(self, document_id: str) -> dict[str, Any]:
        """A stored document; raises NotFound."""
        return self._call("GET", _path("documents", document_id))

    def delete(self, document_id: str) -> None:
        """Delete a document; raises NotFound."""
        self._call("DELETE", _path("documents", document_id))

    def image(self, image_id: str) -> bytes:
        """A stored picture, as it was given; raises NotFound."""
        return self._send("GET", _path("images", image_id)).content

    def ready(self) -> dict[str, str]:
        """Component -> "ok", or what is wrong with it."""
        with _reachable(self._url):
            return components_of(self._http.get("/readyz"))

    def _write(self, documents: list[dict[str, Any]], report: IngestReport) -> None:
        # One bad document must not keep the others out: halve until it stands alone.
        try:
            _add(report, self._call("POST", "/v1/documents", {"documents": documents}))
        except InvalidRequest as error:
            if len(documents) == 1:
                report.refused.append(_refusal(documents[0], _of_one(error)))
                return
            middle = len(documents) // 2
            self._write(documents[:middle], report)
            self._write(documents[middle:], report)

    def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        return json_of(self._send(method, path, body))

    def _send(self, method: str, path: str, body: dict | None = None) -> httpx.Response:
        with _reachable(self._url):
            response = self._http.request(method, path, json=body)
        if response.is_error:
            raise error_of(response)
        return response


class AsyncClient:
    """`Client` for asyncio. Close it, or use it in an `async with` statement."""

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, timeout_s: float = TIMEOUT_S):
        self._url = base_url(url)
        self._http = httpx.AsyncClient(
            base_url=self._url, headers=_headers(api_key), timeout=timeout_s, transport=_AsyncTransport()
        )

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def answer(self, text: str | None = None, image: Picture | None = None, **fields: Any) -> dict[str, Any]:
        """See `Client.answer`."""
        return await self._call("POST", "/v1/answer", query_body(text, image, fields))

    async def stream(
        self, text: str | None = None, image: Picture | None = None, **fields: Any
    ) -> AsyncIterator[str | dict]:
        """See `Client.stream`."""
        body = query_body(text, image, fields) | {"stream": True}
        with _reachable(self._url):
            async with self._http.stream("POST", "/v1/answer", json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise error_of(response)
                events = Events()
                async for line in response.aiter_lines():
                    for event in events.read(line):
                        yield event

    async def search(self, text: str | None = None, image: Picture | None = None, **fields: Any) -> dict[str, Any]:
        """See `Client.search`."""
        return await self._call("POST", "/v1/search", query_body(text, image, fields))

    async def embed(self, inputs: str | Picture | Iterable[str | Picture]) -> np.ndarray:
        """See `Client.embed`."""
        return embeddings_of(await self._call("POST", "/v1/embeddings", embeddings_body(inputs)))

    async def upsert(self, documents: DocumentLike | Iterable[DocumentLike]) -> dict[str, int]:
        """See `Client.upsert`."""
        body = {"documents": document_bodies(documents)}
        return await self._call("POST", "/v1/documents", body)

    async def get(self, document_id: str) -> dict[str, Any]:
        """See `Client.get`."""
        return await self._call("GET", _path("documents", document_id))

    async def delete(self, document_id: str) -> None:
        """See `Client.delete`."""
        await self._call("DELETE", _path("documents", document_id))

    async def image(self, image_id: str) -> bytes:
        """See `Client.image`."""
        return (await self._send("GET", _path("images", image_id))).content

    async def ready(self) -> dict[str, str]:
        """See `Client.ready`."""
        with _reachable(self._url):
            return components_of(await self._http.get("/readyz"))

    async def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        return json_of(await self._send(method, path, body))

    async def _send(self, method: str, path: str, body: dict | None = None) -> httpx.Response:
        with _reachable(self._url):
            response = await self._http.request(method, path, json=body)
        if response.is_error:
            raise error_of(response)
        return response


class _Transport(httpx.HTTPTransport):
    """Sends again, once, what was sent over a connection that was closed without an answer.

    A proxy that is reloaded because replicas came or went does that to a connection it has just accepted. All calls
    but a deletion do the same when they are done twice.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return super().handle_request(request)
        except httpx.RemoteProtocolError:
            if request.method == "DELETE":
                raise
            return super().handle_request(request)


class _AsyncTransport(httpx.AsyncHTTPTransport):
    """`_Transport` for asyncio."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except httpx.RemoteProtocolError:
            if request.method == "DELETE":
                raise
            return await super().handle_async_request(request)


@contextmanager
def _reachable(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise errors.DeadlineExceeded(f"{url} did not answer in time") from error
    except httpx.TransportError as error:
        hint = "is it running? `make serve` starts one; --url, MMRAG_URL or Client(url) name another"
        raise errors.Unavailable(f"no service answers at {url}: {hint} ({error})") from error


def base_url(url: str) -> str:
    """An address as people write it: `http://` may be missing, and `/v1`, as OpenAI's client wants it, be there.

    Raises:
        InvalidRequest: it is none.
    """
    given = url.strip()
    try:
        parts = urllib.parse.urlsplit(given if "://" in given else f"http://{given}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError as error:
        raise InvalidRequest(f"{url!r} is no address of a service; write one such as {DEFAULT_URL}", "url") from error
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}".rstrip("/")


def _headers(api_key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def _path(kind: str, name: str) -> str:
    return f"/v1/{kind}/{urllib.parse.quote(name, safe='')}"


def _batches(source: Iterable[DocumentLike | Refusal], report: IngestReport) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    num_bytes = 0
    for item in source:
        try:
            body = None if isinstance(item, Refusal) else document_body(item)
        except InvalidRequest as error:
            item, body = _refusal(item, error), None
        if body is None:
            report.refused.append(item)
            continue
        batch.append(body)
        num_bytes += len(str(body.get("text", ""))) + sum(map(len, body.get("images", [])))
        if len(batch) == MAX_BATCH_DOCUMENTS or num_bytes >= MAX_BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def _of_one(error: InvalidRequest) -> InvalidRequest:
    # Alone in its call, so its place there is of no interest.
    reason = re.sub(r"^nothing was written, because of documents\[0\] \(.*?\): ", "", str(error))
    return InvalidRequest(reason, error.param and error.param.removeprefix("documents[0]").removeprefix("."))


def _refusal(document: Any, error: InvalidRequest) -> Refusal:
    document_id = document.get("id") if isinstance(document, Mapping) else getattr(document, "id", None)
    return Refusal(str(document_id or "a document without an id"), str(error), error.param)


def _add(report: IngestReport, written: dict[str, int]) -> None:
    report.num_upserted += written["upserted"]
    report.num_unchanged += written["unchanged"]
    report.num_passages += written["passages"]
    report.num_images += written["images"]
