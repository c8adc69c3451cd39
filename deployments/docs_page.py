"""The page at `/docs`: what OpenAPI says, as plain HTML. No script, and nothing from elsewhere."""

import base64
import hashlib
import json
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse

_STYLE = """
header, main { max-width: 820px; } main { display: block; } dt, pre, h2 { font: .875rem/1.7 ui-monospace, monospace; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 14px 20px; margin: 16px 0; }
h2 { color: var(--ink); margin: 0; overflow-wrap: anywhere; } h2 b { color: var(--accent); margin-right: 1ch; }
article p { margin: 4px 0 8px; } dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 16px; margin: 8px 0; }
dt, dd { margin: 0; } dd { color: var(--soft); font-size: .925rem; }
pre { background: var(--paper); border-radius: 8px; padding: 8px 12px; margin: 8px 0; white-space: pre-wrap; }
"""  # noqa: E501
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'self' 'sha256-{_HASH}'; img-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>mmrag · API</title><link rel="icon" href="/favicon.ico">
<link rel="stylesheet" href="/web/page.css"><style>{style}</style></head><body>
<header><h1>mmrag API</h1><p>For machines: <a href="/openapi.json">openapi.json</a></p><a href="/">Ask</a></header>
<main>{articles}</main></body></html>"""


def add(app: FastAPI) -> None:
    """Serve the page."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()), headers=_HEADERS)


def page(described: dict[str, Any]) -> str:
    """An OpenAPI description as HTML: each operation with the fields of its body and examples."""
    models = described["components"]["schemas"]
    operations = [(path, verb, op) for path, verbs in described["paths"].items() for verb, op in verbs.items()]
    return _PAGE.format(style=_STYLE, articles="".join(_article(*operation, models) for operation in operations))


def _article(path: str, verb: str, operation: dict[str, Any], models: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    model = models.get(body.get("$ref", "").rpartition("/")[2], {})
    fields = [f"<dt>{escape(name)}<dd>{escape(_about(field))}" for name, field in model.get("properties", {}).items()]
    examples = [escape(json.dumps(example, ensure_ascii=False)) for example in model.get("examples", [])]
    parts = [f"<h2><b>{escape(verb.upper())}</b>{escape(path)}</h2>", f"<p>{escape(operation.get('description', ''))}"]
    parts += [f"<dl>{''.join(fields)}</dl>"] * bool(fields) + [f"<pre>{example}</pre>" for example in examples]
    return f"<article>{''.join(parts)}</article>"


def _about(field: dict[str, Any]) -> str:
    kinds = [field, *field.get("anyOf", [])]
    told = [kind["description"] for kind in kinds if "description" in kind]
    return (told or [" | ".join(field.get("enum", [])) or " or ".join(k["type"] for k in kinds if "type" in k)])[0]
