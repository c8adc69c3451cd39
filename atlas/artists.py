"""Other artists' drawings of the things in the atlas, fetched from npm and rendered here.

    python -m atlas.artists            # everything, into .cache/artists
    python -m atlas.artists --heldout  # also the committed pictures of the held-out artists

Every artist becomes `<name>.npz`: `ids` (document ids, str [n]) and `pictures` (uint8 [n, side, side, 4]).
"""

import argparse
import io
import json
import re
import shutil
import subprocess
import tarfile
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import resvg_py
from PIL import Image
from tqdm import tqdm

from atlas.fxemoji_names import fxemoji_names
from mmrag.encoders.pixels import square
from mmrag.errors import ConfigurationError

cache_dir = Path(__file__).parents[1] / ".cache" / "artists"
heldout_dir = Path(__file__).parent / "heldout"
picture_px = 80
heldout_px = 72


@dataclass(frozen=True)
class Artist:
    version: str
    licence: str
    heldout: bool = False


ARTISTS = {
    "noto": Artist("1.2.9", "Apache-2.0"),
    "noto-v1": Artist("1.2.5", "Apache-2.0"),
    "fluent-emoji": Artist("1.2.7", "MIT"),
    "fluent-emoji-flat": Artist("1.2.6", "MIT"),
    "openmoji": Artist("1.2.29", "CC-BY-SA-4.0"),
    "emojione": Artist("1.2.3", "CC-BY-4.0"),
    "emojione-v1": Artist("1.2.3", "CC-BY-SA-4.0"),
    "streamline-emojis": Artist("1.2.4", "CC-BY-4.0"),
    "circle-flags": Artist("1.2.11", "MIT"),
    "flagpack": Artist("1.2.8", "MIT"),
    "fxemoji": Artist("1.2.2", "Apache-2.0", heldout=True),
    "cif": Artist("1.2.7", "CC0-1.0", heldout=True),
}
"""npm packages `@iconify-json/<name>`. Only the held-out artists' pictures are shipped with the atlas."""

flag_artists = {"circle-flags", "flagpack", "cif"}

renamed_flags = {("flagpack", "gb"): "gb-eng", ("flagpack", "gb-eng"): "", ("flagpack", "gb-ukm"): "gb"}
"""flagpack calls England's flag `gb`."""


def fetch(name: str) -> Path:
    """The unpacked package of an artist, downloaded once with `npm pack`.

    Raises:
        ConfigurationError: npm is not installed, or cannot fetch it.
    """
    folder = cache_dir / "packages" / name
    if not (folder / "package" / "icons.json").exists():
        with TemporaryDirectory(dir=_made(cache_dir / "packages")) as partial:
            with tarfile.open(_pack(f"@iconify-json/{name}@{ARTISTS[name].version}", Path(partial))) as archive:
                archive.extractall(partial, filter="data")
            shutil.rmtree(_made(folder) / "package", ignore_errors=True)
            Path(partial, "package").rename(folder / "package")
    return folder / "package"


def _pack(package: str, folder: Path) -> Path:
    if shutil.which("npm") is None:
        raise ConfigurationError("the artists' drawings come from npm, which is not here: apt-get install npm")
    packed = subprocess.run(["npm", "pack", package], cwd=folder, capture_output=True, text=True)
    if packed.returncode:
        raise ConfigurationError(f"npm cannot fetch {package}: {packed.stderr.strip()[-500:]}")
    return next(folder.glob("*.tgz"))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_artist(name: str) -> tuple[list[str], np.ndarray]:
    """Document ids and pictures (uint8 [n, 80, 80, 4]) of an artist; rendered on the first call."""
    path = cache_dir / f"{name}.npz"
    if not path.exists():
        ids, pictures = zip(*_render_all(name, picture_px), strict=True)
        partial = _made(cache_dir) / f"{name}.partial.npz"
        np.savez(partial, ids=np.array(ids), pictures=np.stack([square(p, picture_px) for p in pictures]))
        partial.rename(path)
    with np.load(path) as stored:
        return stored["ids"].tolist(), stored["pictures"]


def _render_all(name: str, side_px: int):
    icons = json.loads((fetch(name) / "icons.json").read_text())
    things = sorted((thing, icon) for icon in icons["icons"] if (thing := thing_id(name, icon)))
    seen = set()
    for thing, icon in tqdm(things, desc=f"render {name}", unit="picture"):
        if thing not in seen and (picture := _render(icons, icon, side_px)) is not None:
            seen.add(thing)
            yield thing, picture


def _render(icons: dict, icon: str, side_px: int) -> np.ndarray | None:
    drawing = icons["icons"][icon]
    width = drawing.get("width", icons.get("width", 16))
    height = drawing.get("height", icons.get("height", 16))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{drawing.get("left", 0)} {drawing.get("top", 0)} {width} {height}">{drawing["body"]}</svg>'
    )
    width_px = round(2 * side_px * min(1, width / height))
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width_px, skip_system_fonts=True))
    except ValueError:
        return None
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    return picture if picture[..., 3].any() else None


def thing_id(artist: str, icon: str) -> str | None:
    """The document id an icon depicts; None for skin tones, languages and names nobody knows."""
    if artist in flag_artists:
        return _flag_id(renamed_flags.get((artist, icon), icon))
    if artist == "fxemoji":
        code = fxemoji_names.get(icon) or _unicode_names().get(icon)
    else:
        code = _known_names().get(icon) or _known_names().get(icon.removesuffix("-1"))
        code = code or _flag_names().get(re.sub("^flag-for-(flag-)?|^flag-", "", icon))
    return _document_id(code) if code else None


def _flag_id(icon: str) -> str | None:
    if icon in _country_codes():
        return f"country-{icon}"
    return f"flag-{icon}" if re.fullmatch("[a-z]{2}-[a-z0-9-]+", icon) else None


def _document_id(code: str) -> str | None:
    points = [int(point, 16) for point in code.split("-") if point != "fe0f"]
    if any(0x1F3FB <= point <= 0x1F3FF for point in points):
        return None
    if len(points) == 2 and all(0x1F1E6 <= point <= 0x1F1FF for point in points):
        return "country-" + "".join(chr(point - 0x1F1E6 + ord("a")) for point in points)
    if points[0] == 0x1F3F4 and points[-1] == 0xE007F:
        region = "".join(chr(point - 0xE0000) for point in points[1:-1])
        return f"flag-{region[:2]}-{region[2:]}"
    return "emoji-" + "-".join(f"{point:x}" for point in points)


@cache
def _known_names() -> dict[str, str]:
    """Icon name to code points, from the artists that publish both; aliases included."""
    names: dict[str, str] = {}
    for artist in ("openmoji", "fluent-emoji-flat", "noto"):
        package = fetch(artist)
        names |= {name: code for code, name in json.loads((package / "chars.json").read_text()).items()}
        aliases = json.loads((package / "icons.json").read_text()).get("aliases", {})
        for alias, target in aliases.items():
            if target["parent"] in names:
                names.setdefault(alias, names[target["parent"]])
    return names


def icon_names() -> dict[str, str]:
    """A name for each document id that an artist named."""
    return {thing: name for name, code in _known_names().items() if (thing := _document_id(code))}


@cache
def _flag_names() -> dict[str, str]:
    """`peru` to its regional indicators."""
    flags = {name[5:]: code for name, code in _known_names().items() if name.startswith("flag-")}
    return flags | {name.replace("-", ""): code for name, code in flags.items()}


@cache
def _country_codes() -> set[str]:
    countries = {_document_id(code) for name, code in _known_names().items() if name.startswith("flag-")}
    return {thing[8:] for thing in countries if thing and thing.startswith("country-")}


@cache
def _unicode_names() -> dict[str, str]:
    """`smilingface...` (a Unicode name in lower case, letters only) to its code point."""
    names = {}
    for point in [*range(0x20, 0x3300), *range(0x1F000, 0x1FB00)]:
        name = unicodedata.name(chr(point), "")
        names[re.sub("[^a-z0-9]", "", name.lower())] = f"{point:x}"
    return names


def write_heldout(wanted: set[str]) -> None:
    """Store the held-out artists' pictures of the wanted documents under atlas/heldout/."""
    for name, artist in ARTISTS.items():
        if artist.heldout:
            folder = heldout_dir / name
            folder.mkdir(parents=True, exist_ok=True)
            for thing, picture in _render_all(name, heldout_px):
                if thing in wanted:
                    small = Image.fromarray(picture)
                    small.thumbnail((heldout_px, heldout_px), Image.Resampling.LANCZOS)
                    small.save(folder / f"{thing}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heldout", action="store_true", help="also write atlas/heldout/")
    arguments = parser.parse_args()
    for name, artist in ARTISTS.items():
        if not artist.heldout:
            ids, pictures = load_artist(name)
            print(f"{name}: {len(ids)} pictures {pictures.shape[1:]}, {artist.licence}")
    if arguments.heldout:
        documents = (Path(__file__).parent / "knowledge.jsonl").read_text().splitlines()
        write_heldout({json.loads(line)["id"] for line in documents})


if __name__ == "__main__":
    main()
