"""Pictures straight out of the Noto Color Emoji font: one PNG per sequence of code points, as stored there."""

from pathlib import Path

from fontTools.ttLib import TTFont

VARIATION_SELECTOR = 0xFE0F
LIGATURES = 4  # the OpenType number of ligature substitution


class EmojiFont:
    """Looks up the bitmap of a code point sequence (flags and joined emoji are ligatures)."""

    def __init__(self, path: Path):
        font = TTFont(path)
        self._glyphs = font.getBestCmap()
        self._ligatures = _ligatures(font)
        self._bitmaps = font["CBDT"].strikeData[0]

    def png(self, code_points: tuple[int, ...]) -> bytes | None:
        """The PNG of the sequence (136 x 128 RGBA), or None where the font draws no single picture for it."""
        names = tuple(self._glyphs.get(point) for point in code_points if point != VARIATION_SELECTOR)
        name = names[0] if len(names) == 1 else self._ligatures.get(names)
        bitmap = self._bitmaps.get(name)
        return bitmap.imageData if bitmap else None


def _ligatures(font: TTFont) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str] = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        if lookup.LookupType != LIGATURES:
            continue
        for first, ligatures in lookup.SubTable[0].ligatures.items():
            for ligature in ligatures:
                found.setdefault((first, *ligature.Component), ligature.LigGlyph)
    return found
