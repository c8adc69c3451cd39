"""A service for tests: the HTTP API on a real port over real parts in this process, with tiny models."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads for tiny models only wait for each other

from mmrag.config import AppConfig
from tests.elasticsearch_server import ElasticsearchServer, elasticsearch_server
from tests.redis_server import RedisServer, redis_server

LIMITS = {"max_request_bytes": 2_000_000, "max_image_bytes": 500_000, "max_image_pixels": 4_000_000, "timeout_s": 5.0}


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A directory with an untrained image encoder and an untrained fusion decoder."""
    from tests.deployments.tiny_models import write_decoder, write_image_encoder

    directory = tmp_path_factory.mktemp("models")
    write_image_encoder(directory / "image_encoder")
    write_decoder(directory / "fusion_decoder")
    return directory


def config_for(models: Path, store: Path) -> AppConfig:
    return AppConfig.model_validate(
        {
            "limits": LIMITS,
            "image_encoder": {"model": str(models / "image_encoder")},
            "decoder": {"model": str(models / "fusion_decoder")},
            "retriever": {"path": str(store / "knowledge.sqlite")},
        }
    )


@contextmanager
def serving(app) -> Iterator[str]:
    """Serve an ASGI application on a port of its own; yields its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


async def all_well() -> dict[str, str]:
    return {"everything": "ok"}


@pytest.fixture(scope="session")
def url(models, tmp_path_factory) -> Iterator[str]:
    """The address of a service with every limit small."""
    from deployments.http_api import create_app
    from mmrag.local import Local

    config = config_for(models, tmp_path_factory.mktemp("store"))
    with serving(create_app(Local(config).pipeline, all_well, config)) as address:
        yield address


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(shared_redis) -> RedisServer:
    """A real Redis, empty; one server for all tests."""
    shared_redis.admin.flushall()
    return shared_redis


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[ElasticsearchServer]:
    """A real Elasticsearch of one node; one for all tests, which use indices of their own."""
    with elasticsearch_server() as server:
        yield server


@pytest.fixture
def http(url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
