"""What the atlas knows about one thing, real or invented."""

import re
from dataclasses import dataclass, field


@dataclass
class Entity:
    """A thing with facts: what its document says, and what counts as the same answer.

    Attributes:
        kind: a key of the schema's "kinds".
        title: the bare name ("Gambia"); `name` is what stands in a sentence ("the Gambia").
        values: attribute -> surface in the document.
        accepted: attribute -> other surfaces of the same answer.
    """

    id: str
    kind: str
    title: str
    name: str
    values: dict[str, str]
    accepted: dict[str, list[str]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    def in_its_words(self, text: str) -> str:
        """The text, which speaks of countries, as it suits a territory."""
        if self.metadata.get("kind") != "territory":
            return text
        return re.sub(r"\b([Tt]he|a) country\b(?! code)", r"\1 territory", text).replace(" national ", " ")


def listed(items: list[str]) -> str:
    """"Spanish, Quechua and Aymara"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
