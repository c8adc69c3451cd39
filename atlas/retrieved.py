"""Examples as the real retriever gives them: real questions and pictures, real similarities, made-up facts.

What the retriever brings for a question about a country of the training side is noted once. At training time each
document found keeps its name and its similarities, but tells invented facts: the model learns what the retriever's
figures mean, and still has nothing to remember. (Some that cannot be the answer tell their own.)
"""

import asyncio
import hashlib
import pickle
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tqdm import tqdm

from atlas.entity import Entity
from atlas.layouts import write_text
from atlas.photograph_batch import photographs
from atlas.questions import read_entities
from atlas.questions_seen import QUESTION_LAYERS, read_questions, train_templates
from atlas.reading import ReadingExamples, as_people_type
from atlas.wording import fill
from mmrag.config_file import read_config
from mmrag.encoders.fingerprint import embedding_fingerprint
from mmrag.knowledge.sources import read_documents
from mmrag.local import Local
from mmrag.training.data import UNKNOWN, Example
from mmrag.types import DEFAULT_TENANT, DecodeRequest, Document, Passage, SearchRequest

ATLAS = Path(__file__).parent
MAX_PASSAGES = 10
RETRIEVED_SHARE, RETRIEVED_FROM = 0.4, 0.55
"""This share of the examples is as retrieved, after so much of the run."""
UNCHANGED_SHARE = 0.5
"""Of entities of another kind than the one asked for."""
KINDS = {"country named": 30, "country shown": 34, "country both": 4, "name shown": 6, "picture alone": 4,
         "caption": 12, "classify": 10}  # fmt: skip


@dataclass(slots=True)
class Noted:
    """What the retriever brought for one question about the training side."""

    kind: str
    gold_id: str
    attribute: str
    request: DecodeRequest


class RetrievedExamples(Iterator[Example]):
    """Examples from what was noted, the facts made up anew each time; a share of them from invented worlds."""

    def __init__(self, noted: list[Noted], invented: ReadingExamples):
        self.noted, self.invented = noted, invented
        self.rng = invented.rng
        self.entities = {entity.id: entity for entity in read_entities(ATLAS, "train")}

    def __next__(self) -> Example:
        share = RETRIEVED_SHARE if self.invented.progress > RETRIEVED_FROM else 0.0
        while self.rng.random() < share:
            example = self.example(self.rng.choice(self.noted))
            if example is not None:
                return example
        return next(self.invented)

    def example(self, noted: Noted) -> Example | None:
        """None where the right document is not among the passages kept and the picture alone cannot tell."""
        found = noted.request.passages[: self.num_passages()]
        if self.rng.random() < 0.06:
            found = [passage for passage in found if passage.document_id != noted.gold_id]
        ids = [passage.document_id for passage in found]
        gold = ids.index(noted.gold_id) if noted.gold_id in ids else -1
        if gold < 0 and not noted.kind.endswith("named"):
            return None
        told = {id: self.told_by(self.entities[id], noted) for id in [*ids, noted.gold_id]}
        passages = [replace(p, text=self.text(told[p.document_id])) for p in found]
        target = told[noted.gold_id].values[noted.attribute] if gold >= 0 else UNKNOWN
        if gold < 0 and noted.request.task == "classify":
            return None
        text = noted.request.text and self.invented.blurred(noted.request.text)
        request = replace(noted.request, passages=passages, text=text)
        facts = [told[passage.document_id].values for passage in passages]
        return Example(request, target, gold, f"retrieved {noted.kind}", noted.attribute, facts)

    def num_passages(self) -> int:
        return self.rng.choices([1, 2, 3, 4, 5, 6, 8, 10], [6, 4, 12, 8, 50, 6, 8, 6])[0]

    def told_by(self, entity: Entity, noted: Noted) -> Entity:
        """The entity as its passage tells of it. One of another kind than the one asked for, as the envelope found for
        an e-mail's ending, keeps its facts at times: that is what misleads."""
        is_gold = entity.id == noted.gold_id
        if entity.kind != self.entities[noted.gold_id].kind and self.rng.random() < UNCHANGED_SHARE:
            return entity
        return self.retold(entity, noted.attribute, is_gold)

    def retold(self, entity: Entity, attribute: str, is_gold: bool) -> Entity:
        """The entity with other facts: those of an invented one; its name stays."""
        other = self.invented.entity(entity.kind)
        while (is_gold or attribute in entity.values) and attribute not in other.values:
            other = self.invented.entity(entity.kind)
        return replace(entity, values=other.values | {"name": entity.values["name"]})

    def text(self, entity: Entity) -> str:
        held_back = not self.invented.is_training
        return write_text(self.rng, entity.kind, entity.name, entity.values, held_back)


def note_retrieved(cache_path: Path, num: int, seed: int = 0) -> list[Noted]:
    """Ask the real retriever `num` questions about the training side over documents of the training side; cached
    for as long as the encoders, the wordings and the knowledge base stay what they are."""
    cache_path = cache_path.with_stem(f"{cache_path.stem}-{num}-{seed}-{_version()}")
    if cache_path.is_file():
        return [_from_plain(*one) for one in pickle.loads(cache_path.read_bytes())]
    noted = asyncio.run(_note(num, random.Random(seed)))
    cache_path.parent.mkdir(parents=True, exist_ok=True)
    cache_path.write_bytes(pickle.dumps([_plain(one) for one in noted]))
    return noted


def _plain(noted: Noted) -> tuple[dict, dict, list[dict]]:
    """Plain values, which can still be read when the classes have got another field."""
    head, request, *passages = (
        {field.name: getattr(one, field.name) for field in fields(one)}
        for one in (noted, noted.request, *noted.request.passages)
    )
    return head | {"request": None}, request | {"passages": []}, passages


def _from_plain(head: dict, request: dict, passages: list[dict]) -> Noted:
    found = [Passage(**passage) for passage in passages]
    return Noted(**head | {"request": DecodeRequest(**request | {"passages": found})})


def _version() -> str:
    made_of = embedding_fingerprint(read_config(ATLAS.parent / "serve_config.yaml")).encode()
    files = b"".join((ATLAS / name).read_bytes() for name in ("schema.json", "question_frames.json", "knowledge.jsonl"))
    return hashlib.sha256(made_of + files + f"states {QUESTION_LAYERS}".encode()).hexdigest()[:12]


async def _note(num: int, rng: random.Random) -> list[Noted]:
    entities = {entity.id: entity for entity in read_entities(ATLAS, "train")}
    config = read_config(ATLAS.parent / "serve_config.yaml")
    with tempfile.TemporaryDirectory() as folder:
        retriever = config.retriever.model_copy(update={"path": f"{folder}/train.sqlite"})
        local = Local(config.model_copy(update={"retriever": retriever}), has_decoder=False)
        documents = [d for d in read_documents(ATLAS, config.limits) if isinstance(d, Document) and d.id in entities]
        await local.pipeline.ingest(DEFAULT_TENANT, tqdm(documents, desc="documents"))
        pictures = {document.id: document.images[0] for document in documents if document.images}
        noted = []
        for _ in tqdm(range(0, num, 64), desc="questions"):
            noted += await _note_some(local, rng, entities, pictures, 64)
        return noted


async def _note_some(local: Local, rng: random.Random, entities: dict, pictures: dict, num: int) -> list[Noted]:
    asked = [_asked(rng, entities, pictures) for _ in range(num)]
    texts = [text for text, *_ in asked if text]
    text_embeddings = iter(zip(await local.text_encoder.embed(texts), read_questions(texts), strict=True))
    shown = [pictures[entity.id] for _, kind, entity, _ in asked if not kind.endswith("named")]
    images = await local.image_encoder.embed(photographs(shown, rng))
    embedded = iter(zip(images.embeddings, images.grids, strict=True))
    requests = []
    for text, kind, *_ in asked:
        image, grid = (None, None) if kind.endswith("named") else next(embedded)
        task = kind if kind in ("caption", "classify") else "answer"
        embedding, states = next(text_embeddings) if text else (None, None)
        requests.append(DecodeRequest(text or None, embedding, image, grid, [], task=task, question_states=states))
    searches = [
        SearchRequest(r.text, r.text_embedding, r.image_embedding, top_k=MAX_PASSAGES) for r in requests
    ]
    results = await local.knowledge.search(searches)
    return [
        Noted(kind, entity.id, attribute, replace(request, passages=slim(passages)))
        for (_, kind, entity, attribute), request, passages in zip(asked, requests, results, strict=True)
    ]


def _asked(rng: random.Random, entities: dict[str, Entity], pictures: dict) -> tuple[str, str, Entity, str]:
    """A question in a train wording: its words ("" for a picture alone), kind, entity and attribute."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    wanted = "country" if kind.startswith(("country", "classify")) else rng.choice(["country", "emoji", "emoji"])
    entity = rng.choice([e for e in entities.values() if e.kind == wanted and e.id in pictures])
    attribute = "name"
    if kind.startswith("country"):
        attribute = rng.choice([attribute for attribute in entity.values if attribute != "name"])
    elif kind == "classify":
        attribute = "continent"
    key = ("captions",) if kind == "caption" else (entity.kind, attribute, "shown")
    if kind in ("country named", "country both"):
        key = (entity.kind, attribute, "named")
    if kind == "picture alone" or (kind in ("caption", "classify") and rng.random() < 0.4):
        return "", kind, entity, attribute
    return as_people_type(rng, fill(rng.choice(train_templates()[key]), entity.name)), kind, entity, attribute


def slim(passages: list[Passage]) -> list[Passage]:
    """Without the text, which is made up anew at training time."""
    return [replace(passage, text="") for passage in passages]
