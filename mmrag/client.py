"""The Python client of the HTTP API, in two forms: `Client` waits, `AsyncClient` is awaited.

    client = Client("http://127.0.0.1:8000")
    client.answer("What is the capital of Peru?")["answer"]
    client.answer("What do they pay with here?", image=Path("flag.png").read_bytes())
    client.upsert([Document(id="zubrovia", title="Zubrovia", text="Its capital is Lutzport.")])

What the service refuses raises the same errors as the library: `InvalidRequest`, `NotFound`, `Overloaded`, ….
"""

import base64
import json
import urllib.parse
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from mmrag import errors
from mmrag.images import sniff_media_type
from mmrag.types import Document, IngestReport, Refusal

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 60.0
MAX_BATCH_DOCUMENTS = 32
MAX_BATCH_BYTES = 8 * 2**20

_ERRORS: dict[str, type[errors.MmragError]] = {
    "too_large": errors.TooLarge,
    "unsupported_media": errors.UnsupportedMedia,
    "invalid_image": errors.InvalidImage,
    "unauthorized": errors.Unauthorized,
    "not_found": errors.NotFound,
    "overloaded": errors.Overloaded,
    "deadline_exceeded": errors.DeadlineExceeded,
    "unavailable": errors.Unavailable,
    "internal": errors.Unavailable,
}


class Client:
    """Talks to a service; every method waits for its answer. Close it, or use it in a `with` statement."""

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, timeout_s: float = TIMEOUT_S):
        self._url = url
        self._http = httpx.Client(base_url=url, headers=_headers(api_key), timeout=timeout_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def answer(self, text: str | None = None, image: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """The answer with its evidence. `fields`: task, labels, top_k, filters, explain, max_new_tokens, temperature,
        sampling_top_k, top_p, seed, stop."""
        return self._call("POST", "/v1/answer", _query(text, image, fields))

    def stream(self, text: str | None = None, image: bytes | None = None, **fields: Any) -> Iterator[str | dict]:
        """The answer's text in pieces as it is written, then the whole answer."""
        body = _query(text, image, fields) | {"stream": True}
        with _reachable(self._url), self._http.stream("POST", "/v1/answer", json=body) as response:
            if response.is_error:
                response.read()
                raise _error_of(response)
            events = _Events()
            for line in response.iter_lines():
                yield from events.read(line)

    def search(self, text: str | None = None, image: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """The passages that an answer would be read from. `fields`: top_k, filters."""
        return self._call("POST", "/v1/search", _query(text, image, fields))

    def embed(self, inputs: list[str | bytes]) -> np.ndarray:
        """Texts and encoded images in the one space: float32 [n, dimension], L2-normalised."""
        return _embeddings(self._call("POST", "/v1/embeddings", _embeddings_body(inputs)))

    def upsert(self, documents: Iterable[Document]) -> dict[str, int]:
        """Write all of the documents, or none where one is refused; searchable when this returns."""
        return self._call("POST", "/v1/documents", {"documents": [_document(document) for document in documents]})

    def ingest(self, source: Iterable[Document | Refusal]) -> IngestReport:
        """Write what can be taken, in batches, and report the rest; for many documents."""
        report = IngestReport()
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
            return self._http.get("/readyz").json()["components"]

    def _write(self, documents: list[Document], report: IngestReport) -> None:
        # One bad document must not keep the others out: halve until it stands alone.
        try:
            _add(report, self.upsert(documents))
        except errors.InvalidRequest as error:
            if len(documents) == 1:
                report.refused.append(Refusal(documents[0].id, str(error), error.param))
                return
            middle = len(documents) // 2
            self._write(documents[:middle], report)
            self._write(documents[middle:], report)

    def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        return self._send(method, path, body).json()

    def _send(self, method: str, path: str, body: dict | None = None) -> httpx.Response:
        with _reachable(self._url):
            response = self._http.request(method, path, json=body)
        if response.is_error:
            raise _error_of(response)
        return response


class AsyncClient:
    """`Client` for asyncio. Close it, or use it in an `async with` statement."""

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, timeout_s: float = TIMEOUT_S):
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(api_key), timeout=timeout_s)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def answer(self, text: str | None = None, image: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """See `Client.answer`."""
        return await self._call("POST", "/v1/answer", _query(text, image, fields))

    async def stream(
        self, text: str | None = None, image: bytes | None = None, **fields: Any
    ) -> AsyncIterator[str | dict]:
        """See `Client.stream`."""
        body = _query(text, image, fields) | {"stream": True}
        with _reachable(self._url):
            async with self._http.stream("POST", "/v1/answer", json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise _error_of(response)
                events = _Events()
                async for line in response.aiter_lines():
                    for event in events.read(line):
                        yield event

    async def search(self, text: str | None = None, image: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """See `Client.search`."""
        return await self._call("POST", "/v1/search", _query(text, image, fields))

    async def embed(self, inputs: list[str | bytes]) -> np.ndarray:
        """See `Client.embed`."""
        return _embeddings(await self._call("POST", "/v1/embeddings", _embeddings_body(inputs)))

    async def upsert(self, documents: Iterable[Document]) -> dict[str, int]:
        """See `Client.upsert`."""
        body = {"documents": [_document(document) for document in documents]}
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
            return (await self._http.get("/readyz")).json()["components"]

    async def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        return (await self._send(method, path, body)).json()

    async def _send(self, method: str, path: str, body: dict | None = None) -> httpx.Response:
        with _reachable(self._url):
            response = await self._http.request(method, path, json=body)
        if response.is_error:
            raise _error_of(response)
        return response


@contextmanager
def _reachable(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise errors.DeadlineExceeded(f"{url} did not answer in time") from error
    except httpx.TransportError as error:
        hint = "is it running? `make serve` starts it"
        raise errors.Unavailable(f"no service answers at {url}: {hint} ({error})") from error


class _Events:
    """Reads server-sent events line by line."""

    def __init__(self) -> None:
        self._name = ""

    def read(self, line: str) -> Iterator[str | dict]:
        field, _, value = line.partition(": ")
        if field == "event":
            self._name = value
        elif field == "data":
            data = json.loads(value)
            if self._name == "error":
                raise _error(data["error"], {})
            yield data["text"] if self._name == "token" else data


def _headers(api_key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def _query(text: str | None, image: bytes | None, fields: dict[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in fields.items() if value is not None}
    if text is not None:
        body["text"] = text
    if image is not None:
        body["image"] = _data_uri(image)
    return body


def _data_uri(image: bytes) -> str:
    return f"data:{sniff_media_type(image)};base64,{base64.b64encode(image).decode()}"


def _document(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "title": document.title,
        "text": document.text,
        "images": [_data_uri(image) for image in document.images],
        "labels": document.labels,
        "metadata": document.metadata,
    }


def _embeddings_body(inputs: list[str | bytes]) -> dict[str, Any]:
    values = [value if isinstance(value, str) else _data_uri(value) for value in inputs]
    return {"input": values, "encoding_format": "base64"}


def _embeddings(body: dict[str, Any]) -> np.ndarray:
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in body["data"]]
    return np.stack(rows)


def _path(kind: str, name: str) -> str:
    return f"/v1/{kind}/{urllib.parse.quote(name, safe='')}"


def _batches(source: Iterable[Document | Refusal], report: IngestReport) -> Iterator[list[Document]]:
    batch: list[Document] = []
    num_bytes = 0
    for item in source:
        if isinstance(item, Refusal):
            report.refused.append(item)
            continue
        batch.append(item)
        num_bytes += len(item.text) + sum(map(len, item.images))
        if len(batch) == MAX_BATCH_DOCUMENTS or num_bytes >= MAX_BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def _add(report: IngestReport, written: dict[str, int]) -> None:
    report.num_upserted += written["upserted"]
    report.num_unchanged += written["unchanged"]
    report.num_passages += written["passages"]
    report.num_images += written["images"]


def _error_of(response: httpx.Response) -> errors.MmragError:
    try:
        return _error(response.json()["error"], response.headers)
    except (ValueError, KeyError, TypeError):
        return errors.Unavailable(f"the service answered with status {response.status_code}, and no word why")


def _error(detail: dict[str, Any], headers: Any) -> errors.MmragError:
    kind = _ERRORS.get(detail["type"], errors.InvalidRequest)
    if issubclass(kind, errors.InvalidRequest):
        return kind(detail["message"], detail.get("param"))
    if kind is errors.Overloaded:
        return errors.Overloaded(detail["message"], float(headers.get("retry-after", 1)))
    return kind(detail["message"])
