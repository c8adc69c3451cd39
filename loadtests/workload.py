"""What users send: bodies of requests, made from the atlas."""

import base64
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.atlas_words import Atlas, load_atlas
from loadtests.pictures import jittered
from loadtests.popularity import Zipf

CATALOGUE_SIZE = 2_000
"""How many different requests of a kind there are where requests repeat."""

BATCH_SIZE = 64
NUM_INGESTED_IDS = 64
INGESTED_ID = "loadtest-{}"
"""Documents written under load: few ids, written again and again, so that little is left to clear away."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request ready to be sent. `kind`: one of `KINDS`."""

    kind: str
    path: str
    body: bytes
    is_streamed: bool = False


class Workload:
    """Makes requests; the same `seed` makes the same ones.

    Without `zipf` no request comes twice, so that no cache helps. With it they are drawn from a catalogue by a Zipf
    distribution with that exponent, and the same request is the same byte for byte.
    """

    def __init__(self, seed: int, zipf: float | None = None, atlas: Atlas | None = None):
        self._seed = seed
        self._atlas = atlas or load_atlas()
        self._numbers = itertools.count()
        self._popularity = Zipf(CATALOGUE_SIZE, zipf) if zipf is not None else None
        self._rng = random.Random(seed)

    def request(self, kind: str) -> Request:
        """The next request of a kind."""
        number = self._popularity.draw(self._rng) if self._popularity else next(self._numbers)
        return KINDS[kind](self._atlas, random.Random(f"{self._seed} {kind} {number}"))

    def mixed(self, mix: dict[str, float]) -> Request:
        """The next request where each kind comes up by its weight."""
        [kind] = self._rng.choices(list(mix), list(mix.values()))
        return self.request(kind)


def ask_in_words(atlas: Atlas, rng: random.Random) -> Request:
    text, _ = atlas.question(rng, "named")
    return _request("text", "/v1/answer", {"text": text})


def ask_streamed(atlas: Atlas, rng: random.Random) -> Request:
    text, _ = atlas.question(rng, "named")
    return _request("stream", "/v1/answer", {"text": text, "stream": True})


def ask_with_picture(atlas: Atlas, rng: random.Random) -> Request:
    """A picture alone: what is it?"""
    thing = rng.choice(atlas.things)
    return _request("image", "/v1/answer", {"image": _photo(atlas, thing.id, rng), "task": "caption"})


def ask_about_picture(atlas: Atlas, rng: random.Random) -> Request:
    text, thing = atlas.question(rng, "shown")
    return _request("both", "/v1/answer", {"text": text, "image": _photo(atlas, thing.id, rng)})


def search(atlas: Atlas, rng: random.Random) -> Request:
    text, _ = atlas.question(rng, "named")
    return _request("search", "/v1/search", {"text": text})


def embed(atlas: Atlas, rng: random.Random) -> Request:
    return _embeddings("embed", [atlas.question(rng, "named")[0]])


def embed_batch(atlas: Atlas, rng: random.Random) -> Request:
    return _embeddings("embed_batch", [atlas.question(rng, "named")[0] for _ in range(BATCH_SIZE)])


def embed_image(atlas: Atlas, rng: random.Random) -> Request:
    return _embeddings("embed_image", [_photo(atlas, rng.choice(atlas.things).id, rng)])


def ingest(atlas: Atlas, rng: random.Random) -> Request:
    """A document of the atlas in a new edition, with a new picture."""
    original = rng.choice(atlas.documents)
    document = {
        "id": INGESTED_ID.format(rng.randrange(NUM_INGESTED_IDS)),
        "title": original["title"],
        "text": f"{original['text']} This is edition {rng.randrange(10**9)}.",
        "images": [_photo(atlas, original["id"], rng)],
    }
    return _request("ingest", "/v1/documents", {"documents": [document]})


KINDS: dict[str, Callable[[Atlas, random.Random], Request]] = {
    "text": ask_in_words,
    "stream": ask_streamed,
    "image": ask_with_picture,
    "both": ask_about_picture,
    "search": search,
    "embed": embed,
    "embed_batch": embed_batch,
    "embed_image": embed_image,
    "ingest": ingest,
}


def _request(kind: str, path: str, body: dict) -> Request:
    return Request(kind, path, json.dumps(body).encode(), is_streamed=body.get("stream", False))


def _embeddings(kind: str, inputs: list[str]) -> Request:
    return _request(kind, "/v1/embeddings", {"input": inputs, "encoding_format": "base64"})


def _photo(atlas: Atlas, thing_id: str, rng: random.Random) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jittered(atlas.picture(thing_id), rng)).decode()}"
