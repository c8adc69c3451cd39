"""What the README shows works: its curl commands and its Python, against the API over the trained models."""

import asyncio
import contextlib
import io
import json
import re
import subprocess
from pathlib import Path

import pytest

from deployments.http_api import create_app
from mmrag.config import AppConfig
from mmrag.local import Local
from mmrag.types import DEFAULT_TENANT, Document
from tests.conftest import all_well, serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN_ADDRESS = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A service with the trained models and three countries of the atlas."""
    store = tmp_path_factory.mktemp("readme") / "knowledge.sqlite"
    config = AppConfig.model_validate(
        {
            "image_encoder": {"model": str(ROOT / "atlas/weights/image_encoder")},
            "decoder": {"model": str(ROOT / "atlas/weights/fusion_decoder")},
            "retriever": {"path": str(store)},
        }
    )
    asyncio.run(Local(config).pipeline.upsert(DEFAULT_TENANT, list(_countries())))
    with serving(create_app(Local(config).pipeline, all_well, config)) as url:
        yield url.removeprefix("http://")


def _countries():
    for line in (ROOT / "atlas/knowledge.jsonl").read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        if fields["id"] in ("country-pe", "country-vn", "country-np"):
            images = [(ROOT / "atlas" / path).read_bytes() for path in fields.pop("images")]
            yield Document(**fields, images=images)


def test_the_curl_commands(address):
    shown = re.findall(r"^\$ (curl .+(?:\n    .+)*)", README, re.MULTILINE)
    assert len(shown) >= 3
    answers = []
    for command in shown:
        run = subprocess.run(
            command.replace(SHOWN_ADDRESS, address), shell=True, cwd=ROOT, capture_output=True, text=True, check=True
        )
        body = json.loads(run.stdout)
        assert "error" not in body, (command, body)
        answers.append(body.get("answer"))
    assert [answer for answer in answers if answer] == ["Vietnamese dong", "Lutzport"]


def test_the_python(address):
    [code] = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace(SHOWN_ADDRESS, address), {})
    assert printed.getvalue().startswith("Peruvian sol — ")
