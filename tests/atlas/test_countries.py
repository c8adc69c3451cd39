import json
from pathlib import Path

import pytest

from atlas.entity import Entity
from atlas.questions import read_entities
from atlas.wording import fill, possessive

ATLAS = Path(__file__).parents[2] / "atlas"


@pytest.fixture(scope="module")
def countries() -> dict[str, Entity]:
    return {entity.id.removeprefix("country-"): entity for entity in read_entities(ATLAS) if entity.kind == "country"}


def test_peru(countries):
    assert countries["pe"].values == {
        "name": "Peru",
        "capital": "Lima",
        "continent": "South America",
        "region": "South America",
        "currency": "Peruvian sol",
        "languages": "Spanish and Quechua",
        "population": "31,989,256",
        "area": "1,285,220",
        "neighbours": "Bolivia, Brazil, Chile, Colombia and Ecuador",
        "domain": ".pe",
        "calling_code": "+51",
    }


def test_names_read_well(countries):
    assert (countries["gm"].title, countries["gm"].name) == ("Gambia", "the Gambia")
    assert countries["ci"].title == "Côte d'Ivoire"
    assert countries["cd"].name == "the Democratic Republic of the Congo"
    assert "Ivory Coast" in countries["ci"].accepted["name"]
    assert not [c.title for c in countries.values() if any(mark in c.title for mark in "&()’") or "St." in c.title]


def test_what_is_not_known_is_left_out(countries):
    assert set(countries["aq"].values) == {"name", "area", "domain"}
    assert "neighbours" not in countries["jp"].values
    assert not [c.id for c in countries.values() if "" in c.values.values() or "0" in c.values.values()]


def test_several_capitals(countries):
    assert countries["za"].values["capital"] == "Pretoria, Cape Town and Bloemfontein"
    assert "La Paz" in countries["bo"].accepted["capital"]


def test_borders_are_mutual(countries):
    by_name = {country.name: country for country in countries.values()}
    for country in countries.values():
        listed = country.values.get("neighbours", "")
        for other in by_name.values():
            if other.name in listed.replace(" and ", ", ").split(", "):
                assert country.name in other.values["neighbours"]


def test_calling_codes_and_domains_have_their_form(countries):
    for country in countries.values():
        assert country.values.get("domain", ".xx").startswith(".")
        assert country.values.get("calling_code", "+1").startswith("+")


def test_territories_are_not_called_countries():
    lines = (ATLAS / "knowledge.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [d["text"] for d in map(json.loads, lines) if d["metadata"]["kind"] == "territory"]
    assert len(texts) > 40
    assert not [text for text in texts if "a country" in text or "The country counts" in text]


def test_fill_minds_articles_and_number():
    assert fill("{name} is small.", "the Gambia") == "The Gambia is small."
    assert fill("Visit {name}.", "the Gambia") == "Visit the Gambia."
    assert fill("[It|They]: {value}", "Peru", many=True, value="a and b") == "They: a and b"
    assert (possessive("Peru"), possessive("the Philippines")) == ("Peru's", "the Philippines'")
