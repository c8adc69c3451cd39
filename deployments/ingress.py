"""The ingress as a deployment: the HTTP API over a pipeline whose parts are the other deployments."""

import asyncio

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from deployments.http_api import create_app
from deployments.metrics import Measured, MeasuredPipeline, Metrics
from deployments.remote import RemoteDecoder, RemoteImageEncoder, RemoteRetriever, RemoteTextEncoder
from mmrag.cache import open_cache
from mmrag.config import AppConfig
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.knowledge.passages import Splitter


# More requests than `deployments.http_api` admits, so that it is the API that refuses, in JSON, and never Ray.
@serve.deployment(max_ongoing_requests=2048, ray_actor_options={"num_cpus": 0.2})
@serve.ingress()
class Ingress:
    """Holds the pipeline; imports no model."""

    def __init__(
        self,
        config: AppConfig,
        text_encoder: DeploymentHandle,
        image_encoder: DeploymentHandle,
        retriever: DeploymentHandle,
        decoder: DeploymentHandle,
    ):
        parts = {
            "text_encoder": RemoteTextEncoder(text_encoder, config.text_encoder),
            "image_encoder": RemoteImageEncoder(image_encoder, config.image_encoder),
            "retriever": RemoteRetriever(retriever, config.retriever),
            "decoder": RemoteDecoder(decoder, config.decoder),
        }
        splitter = Splitter(load_tokenizer(config.text_encoder), config.retriever.passages)
        cache = open_cache(config.cache)
        metrics = Metrics(cache, parts)
        pipeline = MeasuredPipeline(
            metrics, **parts, splitter=splitter, cache=cache, limits=config.query_limits,
            requires_evidence=config.retriever.requires_evidence,
        )
        self._api = Measured(create_app(pipeline, lambda: _states(parts), config), metrics)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._api


async def _states(parts: dict) -> dict[str, str]:
    alive = await asyncio.gather(*(part.is_alive() for part in parts.values()))
    return {name: "ok" if is_alive else "does not answer" for name, is_alive in zip(parts, alive, strict=True)}
