"""Make docs/explorer.html, the explorer within the site's first page, and film docs/explorer.webp for the README.

A reader walks through the code of chapter 00 and draws.

python tools/film_explorer.py       # needs Playwright and a Chromium
"""

import io
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfae import data  # first of all: it keeps TensorFlow quiet
from tfae.explorer import Explorer

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from draw_readme_figure import trained

DOCS = Path(__file__).resolve().parent.parent / "docs"
FRAGMENT, FILM = DOCS / "explorer.html", DOCS / "explorer.webp"
WIDTH, HEIGHT, FRAME = 1000, 558, 80  # pixels, pixels, milliseconds
TURN = [i / 60 * 2 * math.pi for i in range(61)]
WALK = [(0.5 - 0.33 * math.cos(t), 0.5 + 0.3 * math.sin(t) * math.cos(t / 2)) for t in TURN]
BOWS = [(0.36, -2.4 + i * 0.44) for i in range(10)] + [(0.64, -1.5 + i * 0.44) for i in range(10)]
THREE = [(0.48 + 0.16 * math.cos(a), y + 0.14 * math.sin(a)) for y, a in BOWS]


def main() -> None:
    dataset = data.load("strokes")
    explorer = Explorer(trained(dataset.x_train), dataset)
    FRAGMENT.write_text(explorer.fragment() + "\n", encoding="utf-8")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as directory:
        explorer.save(alone := Path(directory) / "page.html")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.goto(alone.as_uri())
        page.wait_for_selector("[data-ready]")
        frames = [*drag(page, page.locator(".plane"), WALK)]
        page.get_by_role("button", name="Clear").click()
        frames += drag(page, page.locator(".pictures canvas").first, THREE + 15 * THREE[-1:])
        browser.close()
    frames[0].save(FILM, save_all=True, append_images=frames[1:], duration=FRAME, loop=0, quality=70, method=6)
    print(f"{FILM.name}: {len(frames)} frames, {FILM.stat().st_size / 1e6:.2f} MB")


def drag(page: Page, canvas: Locator, places: list[tuple[float, float]]) -> Iterator[Image.Image]:
    box = canvas.bounding_box() or {}
    for i, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if i == 0:
            page.mouse.down()
        page.wait_for_timeout(20)
        shot = page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})
        yield Image.open(io.BytesIO(shot)).convert("RGB")
    page.mouse.up()


if __name__ == "__main__":
    main()
