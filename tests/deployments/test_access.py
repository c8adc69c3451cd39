"""Keys and tenants, over HTTP."""

import httpx
import pytest
from starlette.datastructures import Headers

from deployments.access import Access
from deployments.http_api import create_app
from mmrag.config import AccessConfig
from mmrag.errors import ConfigurationError
from mmrag.local import Local
from tests.conftest import all_well, config_for, serving
from tests.deployments.pictures import data_uri, png

DOCUMENT = {"id": "secret", "title": "Secret", "text": "The secret is mauve.", "images": [data_uri(png((5, 55, 5)))]}


@pytest.fixture(scope="module")
def guarded(models, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("MMRAG_API_KEYS", "key-a=alpha, key/b==beta")
    config = config_for(models, tmp_path_factory.mktemp("store"))
    app = create_app(Local(config).pipeline, all_well, config)
    with serving(app) as address, httpx.Client(base_url=address, timeout=30) as http:
        yield http
    patch.undo()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def request_of(headers: dict[str, str]) -> dict:
    return {"type": "http", "headers": Headers(headers).raw, "client": ("10.0.0.7", 4711)}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        {"authorization": "Bearer"},
        {"authorization": "Basic key-a"},
        {"authorization": b"Bearer k\xe4y"},
        {"x-api-key": "key-"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/documents/secret", "/v1/images/0", "/v1/models"])
def test_without_a_valid_key_nothing_is_told(guarded, path, headers):
    response = guarded.get(path, headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "unauthorized"
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", [bearer("key-a"), {"authorization": "bearer  key-a "}, {"x-api-key": "key-a"}])
def test_a_caller_is_the_same_however_the_key_is_sent(monkeypatch, headers):
    monkeypatch.setenv("MMRAG_API_KEYS", "key-a=alpha")
    assert Access(AccessConfig()).caller(request_of(headers)) == "key key-a"


@pytest.mark.parametrize("keys", ["", "key-a=alpha"])
def test_who_makes_up_keys_is_one_caller(monkeypatch, keys):
    monkeypatch.setenv("MMRAG_API_KEYS", keys)
    access = Access(AccessConfig())
    callers = {access.caller(request_of(headers)) for headers in ({}, bearer("made"), {"x-api-key": "up"})}
    assert callers == {"address 10.0.0.7"}


def test_tenants_see_their_own_documents_only(guarded):
    mine, theirs = bearer("key-a"), {"x-api-key": "key/b="}
    guarded.post("/v1/documents", json={"documents": [DOCUMENT]}, headers=mine).raise_for_status()
    stored = guarded.get("/v1/documents/secret", headers=mine).json()
    assert guarded.get("/v1/documents/secret", headers=theirs).status_code == 404
    assert guarded.get(stored["images"][0], headers=mine).status_code == 200
    assert guarded.get(stored["images"][0], headers=theirs).status_code == 404
    assert guarded.delete("/v1/documents/secret", headers=theirs).status_code == 404
    for query in ({"text": "secret"}, {"image": DOCUMENT["images"][0]}):
        assert guarded.post("/v1/search", json=query, headers=mine).json()["passages"]
        assert not guarded.post("/v1/search", json=query, headers=theirs).json()["passages"]
        assert not guarded.post("/v1/answer", json=query, headers=theirs).json()["passages"]


def test_health_and_the_page_need_no_key(guarded):
    for path in ("/healthz", "/readyz", "/", "/docs"):
        assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("value", ["no-equals-sign", "=tenant", "key=", ",", " ", " , ,"])
def test_keys_that_cannot_be_read_stop_the_service(monkeypatch, value):
    monkeypatch.setenv("MMRAG_API_KEYS", value)
    with pytest.raises(ConfigurationError, match="key=tenant"):
        Access(AccessConfig())


def test_without_keys_the_door_is_open(monkeypatch):
    monkeypatch.setenv("MMRAG_API_KEYS", "")
    assert Access(AccessConfig()).tenant(Headers()) == "default"
    monkeypatch.delenv("MMRAG_API_KEYS")
    assert Access(AccessConfig()).tenant(Headers()) == "default"
