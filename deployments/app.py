"""The application: which deployment is given which. The import path in serve_config.yaml."""

from typing import Any

from ray.serve import Application, Deployment

from deployments.fusion_decoder import FusionDecoder, with_places
from deployments.image_encoder import ImageEncoder
from deployments.ingress import Ingress
from deployments.retriever import Retriever
from deployments.text_encoder import TextEncoder
from mmrag.config import AppConfig

HEALTH = {"health_check_period_s": 1.0, "health_check_timeout_s": 10.0}
"""A dead replica is replaced at once; one that is merely busy has three times the timeout to say so."""


def build(args: AppConfig) -> Application:
    """The application as configured by the `args:` of serve_config.yaml."""
    return build_with(args, {})


def build_with(args: AppConfig, options: dict[str, dict[str, Any]]) -> Application:
    """The same with options for each deployment by its name, as the `deployments:` of serve_config.yaml gives them."""
    options = options | {FusionDecoder.name: with_places(options.get(FusionDecoder.name, {}), args.decoder)}

    def configured(deployment: Deployment) -> Deployment:
        return deployment.options(**HEALTH | options.get(deployment.name, {}))

    return configured(Ingress).bind(
        args,
        text_encoder=configured(TextEncoder).bind(args.text_encoder),
        image_encoder=configured(ImageEncoder).bind(args.image_encoder),
        retriever=configured(Retriever).bind(args),
        decoder=configured(FusionDecoder).bind(args.decoder),
    )
