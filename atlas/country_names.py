"""English names where the sources abbreviate, lag behind, or lose their accents."""

NAMES = {
    "AQ": "Antarctica",
    "CC": "Cocos Islands",
    "CD": "Democratic Republic of the Congo",
    "CG": "Republic of the Congo",
    "GS": "South Georgia and the South Sandwich Islands",
    "HK": "Hong Kong",
    "HM": "Heard Island and McDonald Islands",
    "MM": "Myanmar",
    "MO": "Macao",
    "PS": "Palestine",
    "TR": "Turkey",
    "UM": "United States Minor Outlying Islands",
    "VC": "Saint Vincent and the Grenadines",
    "VI": "United States Virgin Islands",
}
ALSO_CALLED = {
    "BL": ["Saint Barts"],
    "CC": ["Keeling Islands", "Cocos (Keeling) Islands"],
    "CD": ["Congo-Kinshasa", "DR Congo"],
    "CG": ["Congo-Brazzaville", "Congo"],
    "CI": ["Ivory Coast"],
    "CV": ["Cabo Verde"],
    "CZ": ["Czech Republic"],
    "GB": ["UK", "Great Britain"],
    "MM": ["Burma"],
    "MO": ["Macau"],
    "NL": ["Holland"],
    "SZ": ["Swaziland"],
    "TL": ["East Timor"],
    "TR": ["Türkiye"],
    "US": ["USA", "United States of America"],
    "VA": ["Vatican", "Holy See"],
    "VI": ["US Virgin Islands"],
}
# Codes in a string: no two letters of it stand together that are not a code.
WITH_ARTICLE = "AE AX BS CC CD CF CG CK DO FK FO GB GM IM IO KM KY MH MP MV NL PH PN SB TC TF UM US VG VI"
TERRITORIES = (
    "AI AQ AS AW AX BL BM BQ BV CC CK CW CX EH FK FO GF GG GI GL GP GS GU HK HM IM IO JE KY MF MO MP MQ MS "
    "NC NF NU PF PM PN PR RE SH SJ SX TC TF TK UM VG VI WF YT"
)
CAPITALS = {
    "BR": "Brasília",
    "CL": "Santiago",
    "CM": "Yaoundé",
    "CO": "Bogotá",
    "CR": "San José",
    "EH": "Laayoune",
    "FO": "Tórshavn",
    "GU": "Hagåtña",
    "IS": "Reykjavík",
    "KI": "South Tarawa",
    "KZ": "Astana",
    "MD": "Chișinău",
    "MM": "Naypyidaw",
    "MV": "Malé",
    "NC": "Nouméa",
    "PW": "Ngerulmud",
    "PY": "Asunción",
    "ST": "São Tomé",
    "TF": "Port-aux-Français",
    "TG": "Lomé",
    "ZA": "Pretoria, Cape Town and Bloemfontein",
}
OTHER_CAPITALS = {
    "BJ": ["Cotonou"],
    "BO": ["La Paz"],
    "CI": ["Abidjan"],
    "GQ": ["Malabo"],
    "LK": ["Sri Jayawardenepura Kotte"],
    "MY": ["Putrajaya"],
    "NL": ["The Hague"],
    "PS": ["Ramallah"],
    "SZ": ["Lobamba"],
    "US": ["Washington, D.C.", "Washington DC"],
    "ZA": ["Pretoria", "Cape Town"],
}
CURRENCIES = {"BG": "EUR"}  # since 2026
