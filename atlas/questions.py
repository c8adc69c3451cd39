"""Questions about the atlas, and about invented entities, each with its answer as the document has it."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from atlas.entity import Entity
from atlas.splits import read_splits
from atlas.wording import fill, load_schema

Form = Literal["named", "shown"]
Wordings = Literal["train", "test"]
LOWER_CASE_SHARE = 0.15
# Capitals where the government sits elsewhere: not asked for in words that mean the seat of government.
SEAT_ELSEWHERE = {f"country-{code}" for code in ("bj", "bo", "ci", "gq", "lk", "my", "nl", "ps", "sz", "za")}
SEAT_WORDS = ("govern", "president", "ministr", "minister", "parliament", "politic", "administrative", "rule", "run")


@dataclass(slots=True)
class Question:
    """One question with its right answer.

    Attributes:
        document_id: the document that holds the answer.
        image_document_id: show this document's picture with the question; None for a question in words alone.
        answer: the surface in the document; `accepted` lists it and other surfaces of the same answer.
        attribute: a key of the schema's attributes.
    """

    text: str
    document_id: str
    image_document_id: str | None
    answer: str
    attribute: str
    accepted: list[str] = field(default_factory=list)


def read_entities(atlas_dir: Path, split: str | None = None) -> list[Entity]:
    """The entities of facts.jsonl on one side of the split, or all; without labels and metadata."""
    sides = read_splits(atlas_dir)
    ids = {id for kind in ("countries", "emoji") for side in sides[kind] for id in sides[kind][side]
           if split in (None, side)}  # fmt: skip
    lines = (atlas_dir / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    found = (entity_of(json.loads(line)) for line in lines)
    return [entity for entity in found if entity.id in ids]


def entity_of(facts: dict) -> Entity:
    """The entity in a line of facts.jsonl."""
    id, kind, values = facts["document_id"], facts["kind"], facts["values"]
    return Entity(id, kind, values["name"], facts["name"], values, facts["accepted"])


def atlas_questions(
    atlas_dir: Path,
    split: str | None = "test",
    form: Form = "named",
    wordings: Wordings = "test",
    seed: int = 0,
    per_entity: int | None = None,
    kinds: tuple[str, ...] = ("country",),
) -> list[Question]:
    """Questions on `per_entity` attributes of each entity (all where None), one wording each, the same for one seed.

    Beside a picture that several entities share, any of their answers is accepted: nobody could tell them apart.
    """
    entities = read_entities(atlas_dir, split)
    twins = _twins(atlas_dir)
    rng = random.Random(f"{seed} {split} {form} {wordings}")
    questions: list[Question] = []
    for entity in entities:
        if entity.kind in kinds:
            asked = list(questions_about(rng, entity, form, wordings, per_entity))
            questions += asked
    return [_accept_twins(question, twins) for question in questions] if form == "shown" else questions


def questions_about(
    rng: random.Random, entity: Entity, form: Form, wordings: Wordings = "test", num: int | None = None
) -> Iterator[Question]:
    """Questions on `num` of the entity's attributes (all where None); the entity may be invented."""
    schema = load_schema()["kinds"][entity.kind]["attributes"]
    asked = [name for name in entity.values if form in schema[name]["questions"][wordings]]
    if num is not None and num < len(asked):
        asked = sorted(rng.sample(asked, num), key=asked.index)
    for attribute in asked:
        templates = schema[attribute]["questions"][wordings][form]
        answer = entity.values[attribute]
        accepted = [answer, *entity.accepted.get(attribute, [])]
        text = in_any_case(rng, fill(_fitting(rng, templates, entity, attribute), entity.name))
        yield Question(text, entity.id, entity.id if form == "shown" else None, answer, attribute, accepted)


def caption_request(rng: random.Random, wordings: Wordings = "test") -> str:
    """Words that ask for a caption: "Caption this picture."."""
    return in_any_case(rng, rng.choice(load_schema()["captions"][wordings]))


def in_any_case(rng: random.Random, text: str) -> str:
    """Some people never press the shift key."""
    return text.lower() if rng.random() < LOWER_CASE_SHARE else text


def _fitting(rng: random.Random, templates: list[str], entity: Entity, attribute: str) -> str:
    if attribute == "capital" and entity.id in SEAT_ELSEWHERE:
        templates = [template for template in templates if not any(word in template.lower() for word in SEAT_WORDS)]
    return rng.choice(templates)


def _twins(atlas_dir: Path) -> dict[str, list[Entity]]:
    """Id -> the other entities whose pictures are the same to the eye."""
    groups = read_splits(atlas_dir)["identical"]
    by_id = {entity.id: entity for entity in read_entities(atlas_dir)}
    return {id: [by_id[other] for other in group if other != id] for group in groups for id in group}


def _accept_twins(question: Question, twins: dict[str, list[Entity]]) -> Question:
    for twin in twins.get(question.document_id, []):
        if question.attribute in twin.values:
            question.accepted += [twin.values[question.attribute], *twin.accepted.get(question.attribute, [])]
    return question
