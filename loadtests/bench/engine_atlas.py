"""The atlas decoder itself in the engine's benchmark: questions about the atlas over passages of its knowledge base.

Hugging Face cannot run what fusion adds to a T5: here the engine is compared with its own limit only.
"""

import json
import random
from dataclasses import dataclass, replace

import numpy as np

from atlas.questions import atlas_questions
from loadtests.bench.engine_workload import DECODER, MAX_OUTPUT, MIN_OUTPUT
from mmrag.decoder.engine import Engine
from mmrag.types import DecodeRequest, Passage

ATLAS = DECODER.parents[1]
MAX_PASSAGES = 20
"""Some 1,500 tokens; more than a caller gets, who asks for five."""

DIMENSION, NUM_QUESTION_LAYERS = 384, 4
NEVER = -1


@dataclass(frozen=True)
class AskedOfAtlas:
    """As `engine_workload.Asked`."""

    request: DecodeRequest
    arrival: float = 0.0

    def as_request(self) -> DecodeRequest:
        return self.request


def write_on(engine: Engine) -> None:
    """Have answers go on to the length that is asked for, whatever the model would end with."""
    engine.inputs.config = replace(engine.inputs.config, end_id=NEVER)


def mixed_questions(num: int, scale: float, seed: int = 3) -> list[AskedOfAtlas]:
    """Questions with one to twenty passages, the right one among them, and answers of fixed lengths."""
    rng = random.Random(seed)
    lines = (ATLAS / "knowledge.jsonl").read_text(encoding="utf-8").splitlines()
    documents = {document["id"]: document for document in map(json.loads, lines)}
    asked = []
    for question in rng.sample(atlas_questions(ATLAS), num):
        num_others = max(0, round(scale * rng.uniform(1, MAX_PASSAGES)) - 1)
        others = rng.sample(sorted(documents.keys() - {question.document_id}), num_others)
        ids = [question.document_id, *others]
        passages = [passage(rng, documents[id]) for id in rng.sample(ids, len(ids))]
        length = round(max(scale, 0.25) * rng.uniform(MIN_OUTPUT, MAX_OUTPUT))
        states = np.stack([embedding(rng) for _ in range(NUM_QUESTION_LAYERS)])
        words = DecodeRequest(question.text, embedding(rng), None, None, passages, max_new_tokens=max(1, length))
        asked.append(AskedOfAtlas(replace(words, question_states=states)))
    return asked


def passage(rng: random.Random, document: dict) -> Passage:
    """The whole of a document. Similarities and embeddings are drawn: reading them takes as long as if measured."""
    similarities = {name: rng.random() for name in ("bm25", "text_text", "text_image")}
    return Passage(
        f"{document['id']}#0", document["id"], document["title"], document["text"],
        similarities=similarities, text_embedding=embedding(rng), image_embedding=embedding(rng),
    )  # fmt: skip


def embedding(rng: random.Random) -> np.ndarray:
    vector = np.array([rng.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
    return vector / np.linalg.norm(vector)


def alike_questions(engine: Engine, asked: list[AskedOfAtlas], num_groups: int) -> list[list[AskedOfAtlas]]:
    """As `engine_workload.alike`: each part's question of about its mean length, as often as there are questions."""
    sizes = {one.request.text: engine.prepare(one.request).sequence.num_tokens for one in asked}
    ordered, groups = sorted(asked, key=lambda one: sizes[one.request.text]), []
    for i in range(num_groups):
        part = ordered[i * len(ordered) // num_groups : (i + 1) * len(ordered) // num_groups]
        mean = sum(sizes[one.request.text] for one in part) / len(part)
        nearest = min(part, key=lambda one: abs(sizes[one.request.text] - mean))
        num_output = round(sum(one.request.max_new_tokens for one in part) / len(part))
        groups.append([AskedOfAtlas(replace(nearest.request, max_new_tokens=num_output))] * len(asked))
    return groups
