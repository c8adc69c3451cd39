"""One tenant tries to reach what is another's, over HTTP, by every way there is."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from deployments.http_api import create_app
from mmrag.config import RetrieverConfig
from mmrag.images import image_id
from mmrag.local import Local
from tests.conftest import all_well, config_for, serving
from tests.deployments.pictures import data_uri, png

ALPHA, BETA = {"authorization": "Bearer key-a"}, {"x-api-key": "key-b"}
PICTURE, OWN_PICTURE = png((5, 55, 5)), png((250, 200, 10))
SECRET = {
    "id": "vault",
    "title": "Vault",
    "text": "The word that opens the vault is mauve.",
    "images": [data_uri(PICTURE)],
    "labels": ["vault", "combination"],
    "metadata": {"level": "top", "tenant": "alpha"},
}
OWN = {
    "id": "orchard",
    "title": "Orchard",
    "text": "Apples grow in the orchard. They are red.",
    "images": [data_uri(OWN_PICTURE)],
    "labels": ["fruit"],
    "metadata": {"level": "low"},
}
QUESTION = {"text": "Vault combination: the word that opens the vault is mauve.", "image": data_uri(PICTURE)}
BRANCHES = {"bm25", "text_text", "text_image", "image_image", "image_text", "label"}


STORES = ["sqlite", pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)]


@pytest.fixture(scope="module", params=STORES)
def service(request, models, tmp_path_factory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMRAG_API_KEYS", "key-a=alpha,key-b=beta")
        folder = tmp_path_factory.mktemp("store")
        config = config_for(models, folder)
        if request.param == "elasticsearch":
            urls = request.getfixturevalue("elasticsearch").urls
            settings = {"urls": urls, "index": "tenants", "images_path": str(folder), "num_replicas": 0}
            settings |= {"timeout_s": 60.0, "refresh_interval": "100ms"}
            retriever = RetrieverConfig(kind="elasticsearch", elasticsearch=settings)
            limits = config.limits.model_copy(update={"timeout_s": 60.0})
            config = config.model_copy(update={"retriever": retriever, "limits": limits})
        with serving(create_app(Local(config).pipeline_with(), all_well, config)) as address:
            yield address


@pytest.fixture
def http(service) -> Iterator[httpx.Client]:
    """What alpha holds is the orchard, what beta holds the vault, and nothing else."""
    with httpx.Client(base_url=service, timeout=120) as client:
        write(client, ALPHA, OWN)
        write(client, BETA, SECRET)
        yield client
        for tenant in (ALPHA, BETA):
            for document_id in ("orchard", "vault", "same", "copy"):
                client.delete(f"/v1/documents/{document_id}", headers=tenant)


def write(http: httpx.Client, tenant: dict, *documents: dict) -> dict:
    return http.post("/v1/documents", json={"documents": documents}, headers=tenant).raise_for_status().json()


def found(http: httpx.Client, tenant: dict, query: dict) -> list[dict]:
    body = {"top_k": 50} | query
    return http.post("/v1/search", json=body, headers=tenant).raise_for_status().json()["passages"]


def ids(passages: list[dict]) -> list[str]:
    return [passage["document_id"] for passage in passages]


def test_no_branch_crosses_though_the_nearest_neighbour_is_anothers(http):
    [theirs] = found(http, BETA, QUESTION)
    assert set(theirs["branches"]) == BRANCHES  # so each of them would find it
    for query in (QUESTION, {"text": QUESTION["text"]}, {"image": QUESTION["image"]}):
        assert ids(found(http, ALPHA, query)) == ["orchard"]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("explain", [False, True])
def test_an_answer_says_nothing_of_anothers(http, is_streamed, explain):
    query = QUESTION | {"stream": is_streamed, "explain": explain, "top_k": 50, "max_new_tokens": 4}
    query["text"] = "Which word opens it?"  # the answer must not be in the question
    for tenant, is_told in ((BETA, True), (ALPHA, False), (BETA, True), (ALPHA, False)):
        evidence = http.post("/v1/answer", json=query, headers=tenant).raise_for_status().text
        assert ("mauve" in evidence) == is_told
        assert (image_id(PICTURE) in evidence) == is_told


def test_what_others_write_changes_nothing(http):
    query = {"text": "apples in the orchard", "image": data_uri(OWN_PICTURE)}
    before = found(http, ALPHA, query)
    write(http, BETA, *(OWN | {"id": f"apple-{i}", "metadata": {}} for i in range(20)))
    assert found(http, ALPHA, query) == before
    for i in range(20):
        http.delete(f"/v1/documents/apple-{i}", headers=BETA).raise_for_status()


def test_a_guessed_id_is_as_good_as_none(http):
    for method in ("GET", "DELETE"):
        guessed, nothing = (
            http.request(method, f"/v1/documents/{name}", headers=ALPHA) for name in ("vault", "nothing")
        )
        assert guessed.status_code == nothing.status_code == 404
        assert guessed.text.replace("vault", "nothing") == nothing.text
    assert http.get("/v1/documents/vault", headers=BETA).status_code == 200


@pytest.mark.parametrize("name", ["beta/vault", "../vault", "vault%00", "beta:vault", "vault#0", "beta%1fvault", "*"])
def test_an_id_names_a_document_and_no_way_to_anothers(http, name):
    assert http.get(f"/v1/documents/{name}", headers=ALPHA).status_code in (404, 422)
    assert http.delete(f"/v1/documents/{name}", headers=ALPHA).status_code in (404, 422)
    assert http.get("/v1/documents/vault", headers=BETA).status_code == 200


def test_a_guessed_image_hash_shows_nothing_not_even_that_it_exists(http):
    address = f"/v1/images/{image_id(PICTURE)}"
    assert http.get(address, headers=BETA).content == PICTURE
    tag = http.get(address, headers=BETA).headers["etag"]
    for headers in (ALPHA, ALPHA | {"if-none-match": tag}, ALPHA | {"if-none-match": "*"}):
        assert http.get(address, headers=headers).status_code == 404
    assert http.get(address, headers=BETA).headers["cache-control"].startswith("private")


def test_the_same_picture_belongs_to_each_who_has_it(http):
    address = f"/v1/images/{image_id(PICTURE)}"
    write(http, ALPHA, OWN | {"id": "copy", "images": [data_uri(PICTURE)]})
    assert http.get(address, headers=ALPHA).content == PICTURE
    http.delete("/v1/documents/copy", headers=ALPHA).raise_for_status()
    assert http.get(address, headers=ALPHA).status_code == 404
    assert http.get(address, headers=BETA).content == PICTURE


def test_the_same_id_names_a_document_of_each(http):
    mine, theirs = OWN | {"id": "same", "text": "Mine."}, SECRET | {"id": "same", "text": "Theirs."}
    assert write(http, BETA, theirs)["upserted"] == write(http, ALPHA, mine)["upserted"] == 1
    assert http.get("/v1/documents/same", headers=BETA).json()["text"] == "Theirs."
    assert http.get("/v1/documents/same", headers=ALPHA).json()["text"] == "Mine."
    http.delete("/v1/documents/same", headers=ALPHA).raise_for_status()
    assert http.get("/v1/documents/same", headers=BETA).json()["text"] == "Theirs."


def test_what_another_has_already_is_new_all_the_same(http):
    assert write(http, ALPHA, SECRET)["upserted"] == 1
    assert ids(found(http, ALPHA, QUESTION))[0] == "vault"


@pytest.mark.parametrize(
    "filters",
    [
        {"tenant": "beta"},
        {"tenant": ["alpha", "beta"]},
        {"tenant": "alpha"},  # what SECRET says of itself
        {"level": "top"},
        {"level": ["top", "low' OR '1'='1"]},
        {"level": "*"},
        {"_tenant": "beta"},
        {"metadata.tenant": "beta"},
        {"tenant.keyword": "beta"},
        {"') OR 1=1 --": "beta"},
        {"bool": "should", "tenant": "beta"},
    ],
)
def test_no_filter_reaches_further_than_the_key(http, filters):
    answer = http.post("/v1/search", json={"top_k": 50} | QUESTION | {"filters": filters}, headers=ALPHA)
    assert answer.status_code in (200, 422)  # 422: no document of theirs has such a field
    assert "vault" not in answer.text


def test_fields_of_another_tenant_are_not_named(http):
    answer = http.post("/v1/search", json=QUESTION | {"filters": {"tenants": "beta"}}, headers=ALPHA)
    assert answer.status_code == 422
    assert "tenant" not in answer.text.replace("tenants", "")


@pytest.mark.parametrize("filters", [{"tenant": {"$ne": "alpha"}}, {"$or": [{"tenant": "beta"}]}, {"a": None}])
def test_a_filter_is_values_and_never_syntax(http, filters):
    body = QUESTION | {"filters": filters}
    assert http.post("/v1/search", json=body, headers=ALPHA).status_code == 422


def test_nobody_but_the_key_names_the_tenant(http):
    claims = {"x-tenant": "beta", "tenant": "beta", "x-mmrag-tenant": "beta", "cookie": "tenant=beta"}
    query = {"text": QUESTION["text"], "top_k": 50}
    answer = http.post("/v1/search?tenant=beta", json=query, headers=ALPHA | claims).raise_for_status().json()
    assert ids(answer["passages"]) == ["orchard"]
    assert http.get("/v1/documents/vault?tenant=beta", headers=ALPHA | claims).status_code == 404
    for path, body in (
        ("/v1/search", query | {"tenant": "beta"}),
        ("/v1/answer", query | {"tenant": "beta"}),
        ("/v1/documents", {"documents": [OWN | {"tenant": "beta"}]}),
        ("/v1/documents", {"documents": [OWN], "tenant": "beta"}),
    ):
        assert http.post(path, json=body, headers=ALPHA).status_code == 422
    form = http.post("/v1/search", data={"text": "vault", "tenant": "beta"}, files={"image": PICTURE}, headers=ALPHA)
    assert form.status_code == 422


def test_a_metadata_field_called_tenant_is_only_that(http):
    write(http, ALPHA, OWN | {"id": "same", "metadata": {"tenant": "beta"}})
    assert http.get("/v1/documents/same", headers=BETA).status_code == 404
    assert "same" not in ids(found(http, BETA, QUESTION | {"filters": {"tenant": "beta"}}))
    assert ids(found(http, ALPHA, {"text": "apples", "filters": {"tenant": "beta"}})) == ["same"]


async def test_many_tenants_in_one_batch_each_get_their_own(http):
    async with httpx.AsyncClient(base_url=http.base_url, timeout=120) as client:
        tenants = [(ALPHA, "orchard"), (BETA, "vault")] * 8
        answers = await asyncio.gather(
            *(client.post("/v1/search", json=QUESTION | {"top_k": 50}, headers=key) for key, _ in tenants)
        )
    for (_, expected), answer in zip(tenants, answers, strict=True):
        assert ids(answer.json()["passages"]) == [expected], json.dumps(answer.json())
