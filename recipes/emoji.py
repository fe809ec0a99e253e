"""Collects the emoji of `sensorium.data.generators.emoji` from six open sets, as npm packs them.

    mkdir -p runs/emoji && cd runs/emoji
    npm pack @iconify-json/fluent-emoji-flat@1.2.6 @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 \\
        @iconify-json/emojione@1.2.3 @iconify-json/fxemoji@1.2.2 @iconify-json/twemoji@1.2.5
    cd ../.. && python -m recipes.emoji runs/emoji/*.tgz

The file is kept with the code, since a seed must give the same picture everywhere; the sets together are fifty times as
large. The same packages give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sensorium.data.generators.emoji import FILE, LOOKS, Look

PACKAGES: dict[str, Look] = {
    "fluent-emoji-flat": "fluent",
    "noto": "noto",
    "noto-v1": "blob",
    "emojione": "emojione",
    "fxemoji": "fxemoji",
    "twemoji": "twemoji",
}
_TABLE = """
    dog / 🐶 / dog-face / dog; cat / 🐱 / cat-face / cat; mouse / 🐭 / mouse-face / mouse;
    rabbit / 🐰 / rabbit-face / bunny; fox / 🦊 / fox; bear / 🐻 / bear / bear; panda / 🐼 / panda / pandaface;
    tiger / 🐯 / tiger-face / tiger; lion / 🦁 / lion; cow / 🐮 / cow-face / cowface; pig / 🐷 / pig-face / pig;
    frog / 🐸 / frog / frog; monkey / 🐵 / monkey-face / monkeyface; chicken / 🐔 / chicken / chicken;
    penguin / 🐧 / penguin / penguin; owl / 🦉 / owl; fish / 🐟 / fish / fish; octopus / 🐙 / octopus / octopus;
    snail / 🐌 / snail / snail; butterfly / 🦋 / butterfly; bee / 🐝 / honeybee / honeybee;
    turtle / 🐢 / turtle / turtle; whale / 🐳 / spouting-whale / spurtingwhale; elephant / 🐘 / elephant / elephant;
    apple / 🍎 / red-apple / redapple; pear / 🍐 / pear / pear; banana / 🍌 / banana / banana;
    lemon / 🍋 / lemon / lemon; bunch of grapes / 🍇 / grapes / grapes; strawberry / 🍓 / strawberry / strawberry;
    cherry / 🍒 / cherries / cherries; watermelon / 🍉 / watermelon / watermelon;
    pineapple / 🍍 / pineapple / pineapple; tomato / 🍅 / tomato / tomato; carrot / 🥕 / carrot;
    loaf of bread / 🍞 / bread / bread; egg / 🥚 / egg; pizza / 🍕 / pizza / sliceofpizza;
    hamburger / 🍔 / hamburger / hamburger; cake / 🎂 / birthday-cake / birthdaycake;
    ice cream / 🍦 / soft-ice-cream / softicecream; house / 🏠 / house / housebuilding;
    car / 🚗 / automobile / automobile; bus / 🚌 / bus / bus; bicycle / 🚲 / bicycle / bicycle;
    airplane / ✈️ / airplane / airplane; rocket / 🚀 / rocket / rocket; sailboat / ⛵ / sailboat / sailboat;
    umbrella / ☂️ / umbrella / umbrella; key / 🔑 / key / key; bell / 🔔 / bell / bell; camera / 📷 / camera / camera;
    light bulb / 💡 / light-bulb / lightbulb; guitar / 🎸 / guitar / guitar; gift / 🎁 / wrapped-gift / present;
    balloon / 🎈 / balloon / balloon; pair of scissors / ✂️ / scissors / blackscissors; sun / ☀️ / sun / sunrays;
    moon / 🌙 / crescent-moon / crescentmoon; star / ⭐ / star / star; cloud / ☁️ / cloud / cloud;
    snowman / ⛄ / snowman-without-snow / snowmanwithoutsnow; tree / 🌳 / deciduous-tree / deciduoustree;
    cactus / 🌵 / cactus / cactus; mushroom / 🍄 / mushroom / mushroom; sunflower / 🌻 / sunflower / sunflower;
    tulip / 🌷 / tulip / tulip; rainbow / 🌈 / rainbow / rainbow; fire / 🔥 / fire / fire;
    heart / ❤️ / red-heart / redheart; ghost / 👻 / ghost / ghost; skull / 💀 / skull / skull;
    thumbs up / 👍 / thumbs-up / thumbsup; soccer ball / ⚽ / soccer-ball / soccerball;
    traffic light / 🚦 / vertical-traffic-light / verticaltrafficlight; pair of glasses / 👓 / glasses / glasses;
    crown / 👑 / crown / crown; top hat / 🎩 / top-hat / tophat; shoe / 👟 / running-shoe / mensshoe
"""
"""What it is called here, the character, its name in five sets, and in fxemoji where that has it."""


def collect(packages: Sequence[Path]) -> dict[str, Any]:
    """What FILE holds. Raises ValueError where the packages are not those of the six sets, or one lacks a picture."""
    rows = [tuple(part.strip() for part in row.split("/")) for row in _TABLE.split(";")]
    looks: dict[str, Any] = {}
    for package in packages:
        with tarfile.open(package) as tar:
            icons, info, facts = (_read(tar, name) for name in ("icons", "info", "package"))
        look = PACKAGES.get(icons["prefix"])
        if look is None:
            raise ValueError(f"{package} is none of {', '.join(PACKAGES)}")
        named = {row[0]: row[2] if look != "fxemoji" else "".join(row[3:]) for row in rows}
        looks[look] = {
            "author": info["author"]["name"],
            "url": info["author"]["url"],
            "licence": info["license"]["spdx"],
            "package": f"{facts['name']}@{facts['version']}",
            "svg": {name: _svg(icons, key, package) for name, key in named.items() if key},
        }
    if set(looks) != set(LOOKS):
        raise ValueError(f"missing: {', '.join(sorted(set(LOOKS) - set(looks)))}")
    return {"characters": {row[0]: row[1] for row in rows}, "looks": {look: looks[look] for look in LOOKS}}


def _read(tar: tarfile.TarFile, name: str) -> dict[str, Any]:
    member = tar.extractfile(f"package/{name}.json")
    assert member is not None
    return json.load(member)


def _svg(icons: dict[str, Any], key: str, package: Path) -> str:
    while key in icons.get("aliases", {}):
        key = icons["aliases"][key]["parent"]
    if key not in icons["icons"]:
        raise ValueError(f"{package} has no {key!r}")
    icon = icons["icons"][key]
    side = [icon.get(name, icons.get(name, 16)) for name in ("width", "height")]
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {side[0]} {side[1]}"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} viewBox="{box}">{icon["body"]}</svg>'


def main(packages: Sequence[Path], out: Path = FILE) -> None:
    text = json.dumps(collect(packages), ensure_ascii=False, separators=(",", ":"))
    out.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("packages", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    main(options.packages, options.out)
