"""Training examples for the fusion decoder: a question, what a retriever would bring for it, and the answer.

The retriever is simulated: which passage leads in which measure, by how much, and how often it is misled. So a
model can be trained on worlds made up on the spot, and learns to read and to weigh evidence, not to remember.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from mmrag.types import DecodeRequest, Passage, Task

UNKNOWN = "unknown"
WORD = re.compile(r"\w+")
# How much each measure counts in the simulated order of the passages. They weigh similarities, not reciprocal ranks as
# `mmrag.config.BranchWeights` do, so neither follows from the other; decoders are trained on what they order, and the
# retriever's weights may change without these.
RANK_WEIGHTS = {
    "bm25": 0.6, "text_text": 1.0, "text_image": 0.3, "image_image": 2.0, "image_text": 0.3, "label": 0.3,
}  # fmt: skip


@dataclass(slots=True)
class Example:
    """One question with evidence. `gold` is the index of the passage that answers it, -1 where none does.

    `group` names the kind of question in validation figures. `topic`: what is asked about, "" where that has no name;
    `told`: for each passage the values it states, by topic. Both may be left out (see `topics`).
    """

    request: DecodeRequest
    target: str
    gold: int = -1
    group: str = "all"
    topic: str = ""
    told: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """A document of a made-up world as the decoder may see it; `facts`: the values in its text, by topic."""

    title: str
    text: str
    labels: list[str] = field(default_factory=list)
    has_image: bool = True
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Asked:
    """A question before retrieval. `named`: its words name the thing; `shown`: its picture shows it."""

    text: str | None
    text_embedding: np.ndarray | None
    named: bool
    shown: bool
    task: Task = "answer"
    labels: list[str] = field(default_factory=list)
    question_states: np.ndarray | None = None


class RetrievalSimulator:
    """Turns a question, the page that answers it and other pages into a request with plausible similarities."""

    def __init__(self, rng: np.random.Generator, text_dimension=384, image_dimension=384, grid_shape=(16, 64)):
        self.rng, self.text_dimension, self.image_dimension = rng, text_dimension, image_dimension
        self.grid_shape = grid_shape

    def request(self, asked: Asked, pages: list[Page], gold: int) -> tuple[DecodeRequest, int]:
        """The request with its passages in the order a rank fusion would give, and where the gold page went.

        `gold` is -1 where no page answers; the similarities then lack a clear leader.
        """
        picture = unit(self.rng, self.image_dimension) if asked.shown else None
        similarities = self.similarities(asked, pages, gold)
        order = self.ranking(similarities)
        passages = [self.passage(pages[i], similarities[i], asked, picture, i) for i in order]
        grid = self.rng.standard_normal(self.grid_shape).astype(np.float16) if asked.shown else None
        request = DecodeRequest(
            asked.text, asked.text_embedding, picture, grid, passages, task=asked.task, labels=asked.labels,
            question_states=asked.question_states,
        )  # fmt: skip
        return request, order.index(gold) if gold >= 0 else -1

    def similarities(self, asked: Asked, pages: list[Page], gold: int) -> list[dict[str, float]]:
        num, rng = len(pages), self.rng
        measured: list[dict[str, float]] = [{} for _ in pages]
        if asked.text is not None:
            for name, values in self.textual(num, gold if asked.named else -1).items():
                for i in range(num):
                    if name != "bm25" or values[i] > 0:
                        measured[i][name] = float(values[i])
        if asked.shown:
            leader = gold if not (asked.named and rng.random() < 0.1) else -1
            values, words = self.pictorial(num, leader), 0.1 + 0.1 * rng.standard_normal(num)
            for i in range(num):
                measured[i]["image_text"] = float(words[i])
                if pages[i].has_image:
                    measured[i]["image_image"] = float(values[i])
        for i, page in enumerate(pages):
            if not page.has_image:
                measured[i].pop("text_image", None)
            if asked.text is not None and mentions(asked.text, [page.title, *page.labels]) and rng.random() < 0.93:
                is_rare = i == gold or rng.random() < 0.3
                measured[i]["label"] = 1.0 if is_rare else float(rng.uniform(0.02, 0.6))
        return measured

    def textual(self, num: int, gold: int) -> dict[str, np.ndarray]:
        """Measures between the question's words and each page; the gold page usually leads where it is named."""
        rng = self.rng
        bm25, cosine = rng.uniform(0.2, 0.95, num), rng.uniform(0.05, 0.5, num)
        bm25[rng.random(num) < 0.25] = 0.0
        if gold >= 0:
            cosine = rng.uniform(0.15, 0.6, num)
            bm25[gold] = rng.uniform(0.5, 1.1)
            cosine[gold] = np.delete(cosine, gold).max(initial=0.3) + rng.normal(0.1, 0.1)
        best = bm25.max(initial=0.0)
        return {
            "bm25": bm25 / best if best > 0 else bm25,
            "text_text": cosine.clip(-0.1, 0.95),
            "text_image": 0.1 + 0.1 * rng.standard_normal(num),
        }

    def pictorial(self, num: int, gold: int) -> np.ndarray:
        """Cosines between two pictures: near 1 for the same drawing, lower for another artist's or a photograph."""
        rng = self.rng
        if gold < 0:
            return rng.uniform(-0.2, rng.uniform(0.1, 0.5), num)
        top = rng.choice([rng.uniform(0.93, 1.0), rng.uniform(0.6, 0.95), rng.uniform(0.45, 0.7)], p=[0.4, 0.5, 0.1])
        values = top - rng.uniform(0.02, 0.15) - rng.exponential(rng.uniform(0.02, 0.4), num)
        values[gold] = top
        return values.clip(-0.3, 1.0)

    def ranking(self, similarities: list[dict[str, float]]) -> list[int]:
        scores = [sum(RANK_WEIGHTS[name] * value for name, value in measured.items()) for measured in similarities]
        noisy = np.array(scores) + self.rng.normal(0, 0.15, len(scores))
        return np.argsort(-noisy).tolist()

    def passage(self, page: Page, similarities: dict[str, float], asked: Asked, picture, index: int) -> Passage:
        text = image = None
        if self.rng.random() < 0.95:
            text = near(self.rng, asked.text_embedding, similarities.get("text_text"), self.text_dimension)
        if page.has_image:
            image = near(self.rng, picture, similarities.get("image_image"), self.image_dimension)
        return Passage(
            f"{index}#0", str(index), page.title, page.text, labels=page.labels, similarities=similarities,
            text_embedding=text, image_embedding=image,
        )


def mentions(text: str, labels: list[str]) -> bool:
    """Whether one of the labels stands in the text, word for word."""
    words = f" {' '.join(WORD.findall(text.lower()))} "
    return any(f" {' '.join(WORD.findall(label.lower()))} " in words for label in labels if label)


def drop_modality(request: DecodeRequest, rng: np.random.Generator, rate: float) -> None:
    """As when an encoder is down: now and then the text embedding, the grid or the passages' embeddings are missing;
    what the question is read from less often, for the decoder reads it itself."""
    if rng.random() < rate / 2:
        request.question_states = None
    if rng.random() < rate:
        request.text_embedding = None
        for passage in request.passages:
            passage.similarities.pop("text_text", None)
            passage.similarities.pop("text_image", None)
    if rng.random() < rate:
        request.image_grid = None
    if rng.random() < rate:
        for passage in request.passages:
            passage.text_embedding = passage.image_embedding = None


def blur_words(text: str, rng: np.random.Generator) -> str:
    """Some or all words of a question lost: its meaning must then be taken from its embedding.

    Without this a small model learns the words of the training questions by heart, and fails on other wordings.
    """
    chance = rng.random()
    if chance < 0.2:
        return ""
    words = text.split()
    if chance < 0.4:
        return " ".join(word for word in words if rng.random() < 0.5)
    return text


def unit(rng: np.random.Generator, dimension: int) -> np.ndarray:
    vector = rng.standard_normal(dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


def near(rng: np.random.Generator, vector: np.ndarray | None, cosine: float | None, dimension: int) -> np.ndarray:
    """A random unit vector; where both are given, at about that cosine from `vector`."""
    noise = unit(rng, dimension)
    if vector is None or cosine is None:
        return noise.astype(np.float16)
    return (cosine * vector + np.sqrt(max(0.0, 1 - cosine**2)) * noise).astype(np.float16)
