"""What OpenAPI cannot read off the routes: the bodies, which they read themselves, and the errors."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from deployments import schema

_BODIES = {
    "/v1/answer": schema.AnswerBody,
    "/v1/search": schema.SearchBody,
    "/v1/embeddings": schema.EmbeddingsBody,
    "/v1/documents": schema.DocumentsBody,
}
_TAKES_FILES = ("/v1/answer", "/v1/search")
_REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Complete the description of `app`; it is made when first asked for, not at start."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = plain()
            _add_bodies(described)
            _add_errors(described)
        return app.openapi_schema

    app.openapi = openapi


def _add_bodies(described: dict[str, Any]) -> None:
    models = [(model, "validation") for model in [*_BODIES.values(), schema.ErrorView]]
    _, definitions = models_json_schema(models, ref_template=_REF)
    described.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    for path, model in _BODIES.items():
        content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
        if path in _TAKES_FILES:
            content["multipart/form-data"] = {"schema": _form(definitions["$defs"][model.__name__])}
        described["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}


def _form(body: dict[str, Any]) -> dict[str, Any]:
    image = {"type": "string", "format": "binary", "description": "the picture, as a file"}
    return {"type": "object", "properties": body["properties"] | {"image": image}}


def _add_errors(described: dict[str, Any]) -> None:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="ErrorView")}}}
    for path in described["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "Any error", "content": content}
