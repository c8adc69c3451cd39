import ast
import base64
import io
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from deployments import schema
from loadtests.atlas_words import load_atlas
from loadtests.popularity import Zipf
from loadtests.workload import CATALOGUE_SIZE, KINDS, Workload

ROOT = Path(__file__).parents[2]
BODIES = {
    "/v1/answer": schema.AnswerBody,
    "/v1/search": schema.SearchBody,
    "/v1/embeddings": schema.EmbeddingsBody,
    "/v1/documents": schema.DocumentsBody,
}


def test_zipf_draws_ranks_in_proportion_to_their_weights():
    zipf, rng = Zipf(50, exponent=1.0), random.Random(0)
    drawn = Counter(zipf.draw(rng) for _ in range(60_000))
    assert set(drawn) <= set(range(50))
    assert drawn[0] / drawn[1] == pytest.approx(2, rel=0.05)
    assert drawn[0] / drawn[9] == pytest.approx(10, rel=0.15)


def test_zipf_with_exponent_0_prefers_nobody():
    drawn = Counter(Zipf(4, 0.0).draw(random.Random(1)) for _ in range(20_000))
    assert min(drawn.values()) / max(drawn.values()) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_request_is_one_that_the_api_takes(kind):
    request = Workload(seed=1).request(kind)
    assert request.kind == kind
    body = BODIES[request.path].model_validate_json(request.body)
    assert request.is_streamed == getattr(body, "stream", False)


@pytest.mark.parametrize("kind", KINDS)
def test_without_zipf_no_request_comes_twice(kind):
    workload = Workload(seed=1)
    assert len({workload.request(kind).body for _ in range(40)}) >= 39  # few names and wordings may meet by chance


def test_another_run_asks_other_questions():
    bodies = [{Workload(seed).request("text").body for _ in range(20)} for seed in (1, 2)]
    assert not bodies[0] & bodies[1]


def test_with_zipf_requests_repeat_byte_for_byte():
    workload = Workload(seed=1, zipf=1.1)
    drawn = Counter(workload.request("both").body for _ in range(200))
    assert drawn.most_common(1)[0][1] > 10
    assert 20 < len(drawn) < min(180, CATALOGUE_SIZE)


def test_the_mix_goes_by_its_weights():
    workload = Workload(seed=1)
    drawn = Counter(workload.mixed({"text": 3, "search": 1}).kind for _ in range(4_000))
    assert drawn["text"] / drawn["search"] == pytest.approx(3, rel=0.15)


def test_a_question_is_a_wording_of_the_atlas_with_its_blanks_filled():
    atlas = load_atlas()
    for form in ("named", "shown"):
        for i in range(50):
            text, thing = atlas.question(random.Random(i), form)
            assert "{" not in text
            assert (thing.name in text) or form == "shown" or not text.islower()


def test_a_picture_is_the_same_thing_and_never_the_same_file():
    workload = Workload(seed=1)
    files = []
    for _ in range(5):
        uri = json.loads(workload.request("embed_image").body)["input"][0]
        files.append(base64.b64decode(uri.partition(",")[2]))
    assert len(set(files)) == 5
    assert all(Image.open(io.BytesIO(file)).size == (256, 256) for file in files)


def test_the_load_tests_know_the_service_by_http_only():
    for path in (ROOT / "loadtests").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("mmrag", "deployments", "atlas")], path
