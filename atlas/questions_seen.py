"""Questions in the wordings of training, each with what the real text encoder makes of it."""

import functools
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from atlas.invented import invent_generic, invent_name
from atlas.question_frames import combined, is_near, whole
from atlas.wording import fill, load_schema
from mmrag.config import TextEncoderConfig
from mmrag.encoders.question import QuestionReader

NUM_NAMES = 2
QUESTION_LAYERS = [2, 4, 5, 6]
"""The last is what the embedding is made of."""
NUM_GENERIC = 4_000
HELD_BACK_SHARE = 0.06


@dataclass(slots=True)
class Wording:
    """One way to ask: {name} and {names} unfilled, and what it is read from with some invented names, float16
    [n, layers, 384]."""

    template: str
    states: np.ndarray
    attribute: str = ""

    def read(self, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
        """Its embedding, float32 [384], and states, with one of the names."""
        states = rng.choice(self.states)
        embedding = states[-1].astype(np.float32)
        return embedding / np.linalg.norm(embedding), states


class Wordings:
    """Train wordings by (kind, attribute, "named" | "shown"), ("captions",), ("generic", "named" | "shown").

    A part of the wordings written one by one is held back from training: `held_back` gives that part, to validate on.
    """

    def __init__(self, cache_path: Path, held_back: bool = False):
        groups = {key: [(t, "") for t in split(templates, held_back)] for key, templates in written().items()}
        for key in [] if held_back else groups:
            groups[key] += [(template, "") for template in combined_for(key)]
        self.groups = groups | generic_templates(held_back)
        everything = {t for templates in train_templates().values() for t in templates}
        everything |= {t for part in (False, True) for group in generic_templates(part).values() for t, _ in group}
        self.states = load_states(cache_path, sorted(everything))

    def choose(self, rng: random.Random, *key: str) -> Wording:
        template, attribute = rng.choice(self.groups[key])
        return Wording(template, self.states[template], attribute)


@functools.cache
def train_templates() -> dict[tuple, list[str]]:
    """All of each group."""
    return {key: [*templates, *combined_for(key)] for key, templates in written().items()}


@functools.cache
def written() -> dict[tuple, list[str]]:
    """Those written one by one, without those that have most of their words in common with one of the test."""
    schema = load_schema()
    groups: dict[tuple, list[str]] = {("captions",): schema["captions"]["train"]}
    for kind, entry in schema["kinds"].items():
        for attribute, about in entry["attributes"].items():
            tests = of_the_test(about)
            for way, templates in about.get("questions", {}).get("train", {}).items():
                more = whole(attribute, way) if kind == "country" else []
                found = dict.fromkeys([*templates, *more])
                groups[kind, attribute, way] = [template for template in found if not is_near(template, tests)]
    return groups


def combined_for(key: tuple) -> list[str]:
    """Those of the group that are combined of parts; neither near the test's nor written, too."""
    if key[0] != "country":
        return []
    tests, known = of_the_test(load_schema()["kinds"]["country"]["attributes"][key[1]]), set(written()[key])
    return [template for template in combined(*key[1:]) if template not in known and not is_near(template, tests)]


def of_the_test(about: dict) -> list[str]:
    return [template for templates in about.get("questions", {}).get("test", {}).values() for template in templates]


def generic_templates(held_back: bool) -> dict[tuple, list[tuple[str, str]]]:
    """Generic wordings with many attributes filled in, and the attribute asked about."""
    rng, groups = random.Random(5 + held_back), {}
    for way, templates in load_schema()["generic"]["questions"]["train"].items():
        pairs = []
        for _ in range(NUM_GENERIC // (20 if held_back else 2)):
            attribute = invent_generic(rng).attribute
            template = rng.choice(split(templates, held_back))
            pairs.append((template.replace("{attribute}", attribute), attribute))
        groups["generic", way] = pairs
    return groups


def split(templates: list[str], held_back: bool) -> list[str]:
    """The first ones of each group are kept back from training, so that validation asks in words never trained on."""
    num_held = max(1, round(HELD_BACK_SHARE * len(templates)))
    shuffled = random.Random(0).sample(templates, len(templates))
    return shuffled[:num_held] if held_back else shuffled[num_held:]


def load_states(path: Path, templates: list[str]) -> dict[str, np.ndarray]:
    """What templates are read from, out of the cache; what it lacks is encoded and added."""
    known: dict[str, np.ndarray] = {}
    if path.is_file():
        saved = np.load(path)  # its name tells the layers
        known = dict(zip(saved["templates"].tolist(), saved["states"], strict=True))
    lacking = [template for template in templates if template not in known]
    if lacking:
        known |= zip(lacking, encode(lacking), strict=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, templates=np.array(list(known)), states=np.stack(list(known.values())))
    return known


def encode(templates: list[str]) -> np.ndarray:
    """float16 [templates, NUM_NAMES, layers, 384]."""
    rng = random.Random(1)
    texts = [fill(template, invent_name(rng)) for template in templates for _ in range(NUM_NAMES)]
    states = read_questions(texts)
    return states.reshape(len(templates), NUM_NAMES, *states.shape[1:])


@functools.cache
def question_reader() -> QuestionReader:
    """As the decoder will read them."""
    return QuestionReader(TextEncoderConfig().model, QUESTION_LAYERS)


def read_questions(texts: list[str], max_batch: int = 64) -> np.ndarray:
    """float16 [texts, layers, 384]."""
    reader = question_reader()
    found = np.zeros((len(texts), len(QUESTION_LAYERS), 384), np.float16)
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in tqdm(range(0, len(texts), max_batch), desc="reading questions", disable=len(texts) <= max_batch):
        some = by_length[start : start + max_batch]
        found[some] = reader.read_all([texts[i] for i in some])
    return found
