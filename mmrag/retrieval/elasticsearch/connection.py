"""Talking to Elasticsearch: bounded retries within a budget of time, then a circuit breaker.

Whatever the trouble is (refused, reset, silent, half a response, too many requests, no shard), the caller gets an
answer or `Unavailable`, and gets it in time.
"""

import asyncio
import logging
import os
import random
import time
from typing import Any
from urllib.parse import urlencode

import orjson
from elastic_transport import AsyncTransport, ConnectionTimeout, NodeConfig, SerializationError, TransportError
from elastic_transport.client_utils import basic_auth_to_header, url_to_node_config
from elasticsearch import ApiError
from elasticsearch.serializer import OrjsonSerializer

from mmrag.circuit_breaker import CircuitBreaker
from mmrag.config import ElasticsearchConfig
from mmrag.errors import ConfigurationError, Unavailable

log = logging.getLogger(__name__)

MAX_CONNECTIONS_PER_NODE = 64
FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 2.0
FAILURES_TO_OPEN, OPEN_S = 3, 1.0
TELLING_SHARE = 0.25
"""Silence for less than this share of `timeout_s` tells more of a caller in a hurry than of Elasticsearch."""

MAX_DEAD_NODE_S = 5.0
"""A node that failed is left alone so long at most, as long as another answers."""

TRANSIENT = {408, 429, 502, 503, 504}
"""HTTP states, of whole responses and of items in them, that another attempt may better."""

INDEX_GONE = "index_not_found_exception"
"""The kind of error that an index, or an alias, answers with that is not there."""

JSON, LINES = "application/vnd.elasticsearch+json", "application/vnd.elasticsearch+x-ndjson"
_AS_OF_8 = {"accept": f"{JSON}; compatible-with=8"}


class Connection:
    """One client for all that a store asks: elasticsearch-py's transport, without the methods for 500 endpoints.

    Raises:
        ConfigurationError: no address is configured, or one that cannot be.
    """

    def __init__(self, config: ElasticsearchConfig):
        self._config = config
        self._urls = config.urls or [u.strip() for u in os.environ.get(config.urls_env, "").split(",") if u.strip()]
        if not self._urls:
            raise ConfigurationError(
                f"no address of Elasticsearch: set retriever.elasticsearch.urls, or ${config.urls_env}"
            )
        self._nodes = [_node(url, config) for url in self._urls]
        self._breaker = CircuitBreaker(FAILURES_TO_OPEN, OPEN_S)
        self._client: AsyncTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Close the connections; another call opens them again."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def call(
        self, method: str, path: str, body: Any = None, params: dict[str, Any] | None = None,
        budget_s: float | None = None,
    ) -> Any:  # fmt: skip
        """The parsed response.

        Args:
            body: to be sent as JSON; bytes: lines of JSON, sent as they are.
            budget_s: the time for all attempts together; the configured `timeout_s` where None.

        Raises:
            ApiError: Elasticsearch refuses, and would again.
            ConfigurationError: it does not know us, or does not let us do this.
            Unavailable: there is no answer in time, or there has not been one for a while.
        """
        budget_s = self._config.timeout_s if budget_s is None else budget_s
        give_up_at = time.monotonic() + budget_s
        for attempt in range(self._config.max_retries + 1):
            if not self._breaker.allows():
                raise Unavailable("the knowledge base does not answer (not asked again for a moment)")
            left_s = give_up_at - time.monotonic()
            # Unless it is the last attempt, another node gets a chance when this one is silent.
            is_last = attempt == self._config.max_retries or len(self._urls) == 1
            try:
                response = await self._send(method, path, body, params, left_s if is_last else left_s / 2)
                self._breaker.succeeded()
                return response
            except ApiError as error:
                if error.status_code not in TRANSIENT:
                    self._breaker.succeeded()
                    raise self._explained(error) from None
                trouble: Exception = error
            except (TransportError, SerializationError) as error:
                trouble = error
            pause = pause_s(attempt)
            if attempt == self._config.max_retries or time.monotonic() + pause >= give_up_at:
                break
            await asyncio.sleep(pause)
        if not (isinstance(trouble, ConnectionTimeout) and budget_s < TELLING_SHARE * self._config.timeout_s):
            self._breaker.failed()
        # Callers need not know where it runs; the log should.
        where = ", ".join(f"{node.host}:{node.port}" for node in self._nodes)
        log.warning("Elasticsearch at %s: %s %s: %r", where, method, path, trouble)
        raise Unavailable("the knowledge base does not answer") from trouble

    async def _send(self, method: str, path: str, body: Any, params: dict | None, timeout_s: float) -> Any:
        headers = _AS_OF_8
        if body is not None:
            is_lines = isinstance(body, bytes)
            body = body if is_lines else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
            headers = headers | {"content-type": f"{LINES if is_lines else JSON}; compatible-with=8"}
        target = f"{path}?{urlencode(params)}" if params else path
        meta, content = await self._client_of_this_loop().perform_request(
            method, target, body=body, headers=headers, request_timeout=max(0.001, timeout_s)
        )
        if meta.status < 200 or meta.status > 299:
            raise ApiError(_kind(content), meta, content)
        if meta.headers.get("x-elastic-product") != "Elasticsearch":
            raise TransportError("what answers is not Elasticsearch")
        return content

    def _client_of_this_loop(self) -> AsyncTransport:
        # Connections belong to the event loop that they were opened in.
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = self._connect(), loop
        return self._client

    def _connect(self) -> AsyncTransport:
        return AsyncTransport(
            self._nodes,
            max_retries=0,  # ours have a pause and an end
            max_dead_node_backoff=MAX_DEAD_NODE_S,
            serializers={JSON: OrjsonSerializer(), LINES: OrjsonSerializer()},
            meta_header=False,
        )

    def _explained(self, error: ApiError) -> Exception:
        if error.error != "security_exception":
            return error
        config = self._config
        return ConfigurationError(
            f"Elasticsearch does not let us in ({error.status_code}): set ${config.api_key_env}, or "
            f"retriever.elasticsearch.username and ${config.password_env}, of a user who may read, write and manage "
            f"{config.index}-*"
        )


def _node(url: str, config: ElasticsearchConfig) -> NodeConfig:
    password, api_key = os.environ.get(config.password_env), os.environ.get(config.api_key_env)
    try:
        node = url_to_node_config(url, use_default_ports_for_scheme=True)
    except ValueError:  # an address may hold a password, so it is not repeated
        raise ConfigurationError("retriever.elasticsearch.urls: each is like https://elasticsearch:9200") from None
    headers = node.headers.copy()
    if api_key:
        headers["authorization"] = f"ApiKey {api_key}"
    elif password:
        headers["authorization"] = basic_auth_to_header((config.username, password))
    ca_certs = config.ca_certs if node.scheme == "https" else None
    return node.replace(headers=headers, connections_per_node=MAX_CONNECTIONS_PER_NODE, ca_certs=ca_certs)


def _kind(content: Any) -> str:
    error = content.get("error") if isinstance(content, dict) else None
    return str(error["type"] if isinstance(error, dict) and "type" in error else error or content)


def pause_s(attempt: int) -> float:
    """Seconds to wait after attempt `attempt` (from 0) failed: doubling, half of it by chance."""
    pause = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**attempt)
    return pause * (0.5 + random.random() / 2)


def as_json(value: Any) -> orjson.Fragment:
    """Ready to be put into what is sent, more than once; numpy arrays become lists."""
    return orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def as_lines(*parts: Any) -> bytes:
    """Each part as JSON on a line of its own; numpy arrays become lists."""
    return b"".join(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE) for part in parts)
