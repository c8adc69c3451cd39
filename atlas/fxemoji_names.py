"""Icons of fxemoji whose name is not the Unicode name of what they show, with the code point they show."""

fxemoji_names: dict[str, str] = {}
