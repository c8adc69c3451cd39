"""The stream of examples the fusion decoder learns to read from: a new small world for every question."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from atlas.entity import Entity, listed
from atlas.invented import distractions, invent_country, invent_generic, invent_name, invent_thing
from atlas.layouts import write_text
from atlas.questions import read_entities
from atlas.questions_seen import Wording, Wordings
from atlas.wording import fill, load_schema
from mmrag.training.data import UNKNOWN, Asked, Example, Page, RetrievalSimulator, blur_words, drop_modality

KINDS_OF_QUESTION = {
    "country named": 30, "country shown": 27, "country both": 4, "thing named": 5, "thing shown": 6,
    "generic named": 6, "generic shown": 2, "name shown": 6, "picture alone": 3, "caption": 7,
    "classify": 4, "classify given": 2,
}  # fmt: skip
GOLD_MISSING_SHARE = 0.1
NO_PASSAGES_SHARE = 0.015
MODALITY_DROPOUT = 0.06
ENTANGLED_SHARE = 0.15
BORROWING_SHARE, BORROWED_SHARE = 0.35, 0.7
"""So many made-up things tell, in place of so many of their facts, real ones."""
PRACTICE = {"continent": 2, "region": 2}
"""Asked for so many times as often as the others: which of two areas is meant, the words hardly say."""
STAGES = [(0.06, 1, 0.35), (0.14, 2, 0.5), (0.3, 4, 0.75), (1.01, 8, 1.0)]
"""Until this share of the run: at most so many passages, telling at most this share of their facts."""


@dataclass(slots=True)
class Exercise:
    """What is asked, before the picture and the evidence: about which attribute of the gold entity, in which words.

    `read_from`: embedding and states of the question.
    """

    kind: str
    entity: Entity
    text: str | None
    read_from: tuple[np.ndarray, np.ndarray] | None
    target: str
    named: bool
    shown: bool
    task: str = "answer"
    labels: list[str] | None = None
    attribute: str = ""


class ReadingExamples(Iterator[Example]):
    """Examples without end; set `progress` (0 to 1) to make them harder."""

    def __init__(self, seed: int, wordings: Wordings, progress: float = 0.0, is_training: bool = True):
        self.rng, self.progress, self.wordings = random.Random(seed), progress, wordings
        self.is_training = is_training
        self.simulator = RetrievalSimulator(np.random.default_rng(seed))
        self.schema = load_schema()
        self.real: dict[str, list[Entity]] = {}
        for entity in read_entities(Path(__file__).parent, "train"):
            self.real.setdefault(entity.kind, []).append(entity)

    def __next__(self) -> Example:
        kind = self.rng.choices(list(KINDS_OF_QUESTION), list(KINDS_OF_QUESTION.values()))[0]
        return self.example(kind)

    def example(self, kind: str) -> Example:
        max_passages, told = next((most, share) for until, most, share in STAGES if self.progress < until)
        question = self.question(kind, told)
        distractors = self.distractors(question, self.num_passages(max_passages) - 1, told)
        pages = [self.page(question.entity, question.attribute, told), *distractors]
        gold = 0
        if self.rng.random() < GOLD_MISSING_SHARE:
            gold, pages = -1, pages[1:] or [self.page(self.entity(question.entity.kind), "", told)]
        if self.rng.random() < NO_PASSAGES_SHARE:
            gold, pages = -1, []
        return self.with_evidence(question, pages, gold)

    def with_evidence(self, question: Exercise, pages: list[Page], gold: int) -> Example:
        embedding, states = question.read_from or (None, None)
        asked = Asked(
            question.text, embedding, question.named, question.shown, question.task, question.labels or [], states
        )
        request, gold = self.simulator.request(asked, pages, gold)
        drop_modality(request, self.simulator.rng, MODALITY_DROPOUT)
        if request.text and request.text_embedding is not None and not question.kind.startswith("generic"):
            request.text = self.blurred(request.text)
        found = gold >= 0 or question.task == "classify"
        group = question.kind if gold >= 0 else "unknown"
        told = [pages[int(passage.document_id)].facts for passage in request.passages]
        return Example(request, question.target if found else UNKNOWN, gold, group, question.attribute, told)

    def blurred(self, text: str) -> str:
        return blur_words(text, self.simulator.rng) if self.is_training and self.progress > 0.1 else text

    def num_passages(self, most: int) -> int:
        if most < 8:
            return self.rng.randint(1, most)
        return self.rng.choices(range(1, 9), [40, 30, 10, 6, 8, 2, 2, 2])[0]

    def question(self, kind: str, told: float) -> Exercise:
        """A question about a new entity; the attribute asked about is among those its page will tell."""
        subject, _, way = kind.partition(" ")
        if subject == "generic":
            return self.generic_question(kind, way)
        if subject in ("country", "thing"):
            return self.attribute_question(kind, self.entity("country" if subject == "country" else "emoji"), way)
        entity = self.entity(self.rng.choice(["country", "emoji"]))
        if subject == "classify":
            return self.classify_question(kind, entity)
        wording = self.caption_wording(entity) if kind == "caption" else None
        if kind == "name shown":
            wording = self.wordings.choose(self.rng, entity.kind, "name", "shown")
        text, read_from = self.worded(wording, entity)
        task = "caption" if kind == "caption" else "answer"
        return Exercise(kind, entity, text, read_from, entity.title, False, True, task, attribute="name")

    def caption_wording(self, entity: Entity) -> Wording | None:
        """Of a request for a caption, at times of a question: that a name is wanted the task says, not the words."""
        chosen = self.rng.random()
        if chosen < 0.5:
            return self.wordings.choose(self.rng, "captions")
        asked = [key for key in self.wordings.groups if key[0] == entity.kind and key[-1] == "shown"]
        return self.wordings.choose(self.rng, *self.rng.choice(asked)) if chosen < 0.7 else None

    def attribute_question(self, kind: str, entity: Entity, way: str) -> Exercise:
        attributes = [attribute for attribute in entity.values if attribute != "name"]
        attribute = self.rng.choices(attributes, [PRACTICE.get(attribute, 1) for attribute in attributes])[0]
        shown = way in ("shown", "both")
        named = way in ("named", "both")
        wording = self.wordings.choose(self.rng, entity.kind, attribute, "named" if named else "shown")
        text, read_from = self.worded(wording, entity)
        return Exercise(kind, entity, text, read_from, entity.values[attribute], named, shown, attribute=attribute)

    def generic_question(self, kind: str, way: str) -> Exercise:
        """About a page of any subject: its attribute is renamed to the one that the wording asks about."""
        wording, entity = self.wordings.choose(self.rng, "generic", way), self.entity("generic")
        asked = self.rng.choice([attribute for attribute in entity.values if attribute != "name"])
        values = {wording.attribute if key == asked else key: value for key, value in entity.values.items()}
        entity = replace(entity, values=values)
        text, read_from = self.worded(wording, entity)
        target = values[wording.attribute]
        named = way == "named"
        return Exercise(kind, entity, text, read_from, target, named, not named, attribute=wording.attribute)

    def classify_question(self, kind: str, entity: Entity) -> Exercise:
        attribute = "continent" if entity.kind == "country" else "category"
        value = entity.values.get(attribute) or self.rng.choice(self.schema["classify"][attribute])
        entity = replace(entity, values=entity.values | {attribute: value})
        way = self.rng.choice(["shown", "named", "alone"])
        wording = self.wordings.choose(self.rng, entity.kind, attribute, way) if way != "alone" else None
        text, read_from = self.worded(wording, entity)
        target, labels = value, None
        if kind == "classify given" or entity.kind != "country":
            labels = self.rng.sample(self.schema["classify"][attribute], 4)
            labels = [*{target, *labels}]
            self.rng.shuffle(labels)
        return Exercise(
            kind, entity, text, read_from, target, way == "named", way != "named", "classify", labels, attribute
        )

    def worded(self, wording: Wording | None, entity: Entity) -> tuple[str | None, tuple | None]:
        if wording is None:
            return None, None
        text = as_people_type(self.rng, fill(wording.template, entity.name))
        return text, wording.read(self.rng)

    def entity(self, kind: str) -> Entity:
        if kind == "generic":
            generic = invent_generic(self.rng)
            return Entity("", kind, generic.title, generic.title, {"name": generic.title} | generic.values)
        if kind != "country":
            return self.borrowing(invent_thing(self.rng))
        country = self.borrowing(invent_country(self.rng))
        if "neighbours" in country.values and self.rng.random() < ENTANGLED_SHARE:
            return replace(country, values=country.values | {"neighbours": entangled(self.rng)})
        return country

    def borrowing(self, entity: Entity) -> Entity:
        """At times with real facts, each one that of another thing of the training side: their shapes are not those
        that are made up ("St. John's", "the Central African CFA franc"), and, shuffled, they tell nothing."""
        if self.rng.random() > BORROWING_SHARE:
            return entity
        borrowed = {}
        for attribute in [attribute for attribute in entity.values if attribute != "name"]:
            lender = self.rng.choice(self.real[entity.kind])
            if attribute in lender.values and self.rng.random() < BORROWED_SHARE:
                borrowed[attribute] = lender.values[attribute]
        changed = {entity.values[attribute]: value for attribute, value in borrowed.items()}
        labels = [changed.get(label, label) for label in entity.labels]
        return replace(entity, values=entity.values | borrowed, labels=labels)

    def page(self, entity: Entity, attribute: str, told: float) -> Page:
        """A page that tells a share of the entity's facts, `attribute` among them."""
        kept = {a: v for a, v in entity.values.items() if a in (attribute, "name") or self.rng.random() < told * 0.7}
        if told == 1.0 and self.rng.random() < 0.5:
            kept = entity.values
        text = write_text(self.rng, entity.kind, entity.name, kept, held_back=not self.is_training)
        if self.rng.random() < 0.2 * told:
            joint = " " if text.endswith(".") else "\n" if "\n" in text else ". "
            text += joint + " ".join(distractions(self.rng, entity.name))
        return Page(entity.title, text, entity.labels, self.rng.random() < 0.93, kept)

    def distractors(self, question: Exercise, num: int, told: float) -> list[Page]:
        return [self.page(self.distractor(question), question.attribute, told) for _ in range(num)]

    def distractor(self, question: Exercise) -> Entity:
        """Mostly of the same kind; some mention the entity asked about, some have nearly its name."""
        gold, rng = question.entity, self.rng
        same = rng.random() < 0.8
        entity = self.entity(gold.kind if same else rng.choice(["country", "emoji", "generic"]))
        if entity.kind != "country" or gold.kind != "country":
            return entity
        if rng.random() < 0.3:
            others = [gold.name, *(invent_country(rng).name for _ in range(rng.randint(0, 3)))]
            return replace(entity, values=entity.values | {"neighbours": listed(rng.sample(others, len(others)))})
        if rng.random() < 0.1:
            return renamed(entity, alike(rng, gold.title))
        return entity


def renamed(entity: Entity, title: str) -> Entity:
    return replace(entity, title=title, name=title, values=entity.values | {"name": title})


def entangled(rng: random.Random) -> str:
    """A list in which two names share words: one who copies it must not go on behind the other."""
    shared = invent_name(rng)
    forms = [shared, f"the Republic of {shared}", f"the Democratic Republic of {shared}", f"South {shared}",
             f"{shared} and {invent_name(rng)}", f"{invent_name(rng)} {shared}"]  # fmt: skip
    names = [*rng.sample(forms, 2), *(invent_name(rng) for _ in range(rng.randint(0, 3)))]
    return listed(rng.sample(names, len(names)))


def alike(rng: random.Random, title: str) -> str:
    """A name easily taken for another: "South Kora" for "Kora"."""
    return rng.choice([
        f"North {title}", f"South {title}", f"New {title}", f"{title} Islands", f"Saint {title}",
        f"{title} and {title[::-1].lower().capitalize()}", title[:-1] + rng.choice("aeiounr"),
    ])


def as_people_type(rng: random.Random, text: str) -> str:
    """As people type: without capitals, without a full stop, with a straight apostrophe, with a word of politeness."""
    if rng.random() < 0.5:
        text = text.replace("’", "'")
    if rng.random() < 0.12:
        text = text.lower()
    if rng.random() < 0.12:
        text = text.rstrip(".?!")
    if rng.random() < 0.05:
        text = rng.choice(["please: ", "hey, ", "hi! ", "quick question: ", "So, ", "ok, "]) + text
    return text


def sample_texts(rng: random.Random, num: int) -> Iterator[str]:
    """Texts of invented pages, for the tokenizer."""
    for _ in range(num):
        generic = invent_generic(rng)
        yield f" {generic.title} {generic.text}"
        for entity in (invent_country(rng), invent_thing(rng)):
            yield f" {entity.title} {write_text(rng, entity.kind, entity.name, entity.values)}"
