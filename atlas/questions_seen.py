"""Questions in the wordings of training, each with the embedding the real text encoder gives it."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atlas.invented import invent_generic, invent_name
from atlas.wording import fill, load_schema

NUM_NAMES = 3
NUM_GENERIC = 4_000
HELD_BACK_SHARE = 0.06


@dataclass(slots=True)
class Wording:
    """One way to ask: {name} and {names} unfilled, and embeddings [n, 384] float16 of it with some invented names."""

    template: str
    embeddings: np.ndarray
    attribute: str = ""


class Wordings:
    """Train wordings by (kind, attribute, "named" | "shown"), ("captions",), ("generic", "named" | "shown").

    A part of each group is held back from training: `held_back` gives that part, to validate on.
    """

    def __init__(self, cache_path: Path, held_back: bool = False):
        groups = {key: [(t, "") for t in split(templates, held_back)] for key, templates in train_templates().items()}
        self.groups = groups | generic_templates(held_back)
        everything = {t for templates in train_templates().values() for t in templates}
        everything |= {t for part in (False, True) for group in generic_templates(part).values() for t, _ in group}
        self.embeddings = load_embeddings(cache_path, sorted(everything))

    def choose(self, rng: random.Random, *key: str) -> Wording:
        template, attribute = rng.choice(self.groups[key])
        return Wording(template, self.embeddings[template], attribute)


def train_templates() -> dict[tuple, list[str]]:
    schema = load_schema()
    groups: dict[tuple, list[str]] = {("captions",): schema["captions"]["train"]}
    for kind, entry in schema["kinds"].items():
        for attribute, about in entry["attributes"].items():
            for way, templates in about.get("questions", {}).get("train", {}).items():
                groups[kind, attribute, way] = templates
    return groups


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


def load_embeddings(path: Path, templates: list[str]) -> dict[str, np.ndarray]:
    """Embeddings from the cache; what it lacks is encoded and added."""
    known: dict[str, np.ndarray] = {}
    if path.is_file():
        saved = np.load(path)
        known = dict(zip(saved["templates"].tolist(), saved["embeddings"], strict=True))
    lacking = [template for template in templates if template not in known]
    if lacking:
        known |= zip(lacking, encode(lacking), strict=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, templates=np.array(list(known)), embeddings=np.stack(list(known.values())))
    return known


def encode(templates: list[str]) -> np.ndarray:
    from mmrag.config import TextEncoderConfig
    from mmrag.encoders.text import TextEncoder

    rng = random.Random(1)
    texts = [fill(template, invent_name(rng)) for template in templates for _ in range(NUM_NAMES)]
    encoded = TextEncoder(TextEncoderConfig()).encode(texts)
    return encoded.reshape(len(templates), NUM_NAMES, -1).astype(np.float16)
