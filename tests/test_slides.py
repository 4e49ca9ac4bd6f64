"""The decks: one a chapter, from marked cells, without a network, with nothing that runs over the edge of a slide."""

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import make_slides  # noqa: E402

PATHS = sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_deck_holds_the_question_the_marked_cells_and_what_was_shown(path):
    page = nbformat.read(path, as_version=4)
    made = list(make_slides.slides(page))
    marked = [cell for cell in page.cells if "slide" in cell.metadata.get("tags", ())]
    assert len(made) == len(marked) + 2 >= 8
    assert made[0].heading.startswith(path.stem[:2]) and made[-1].heading == "What was shown"
    assert sum("<img" in slide.body for slide in made) >= 2 and all(slide.body for slide in made)
    assert sum(bool(slide.notes) for slide in made) >= len(made) // 2


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_deck_loads_nothing(path):
    text = make_slides.deck(nbformat.read(path, as_version=4))
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:)?//", text)
    assert ".ipynb" not in text
    assert not re.search(r"@import|url\(\s*[\"']?https?:", text)
    assert not re.search(r"\\(frac|sum|hat|mathrm)\b", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to show the slides")
def test_nothing_runs_over_the_edge_of_a_slide(tmp_path):
    sync = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True, viewport={"width": 1280, "height": 720}).new_page()
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(request.url))
        for path in PATHS:
            (tmp_path / "deck.html").write_text(make_slides.deck(nbformat.read(path, as_version=4)), encoding="utf-8")
            page.goto((tmp_path / "deck.html").as_uri())
            page.wait_for_function("window.Reveal && Reveal.isReady()")
            for i in range(page.evaluate("Reveal.getTotalSlides()")):
                page.evaluate(f"Reveal.slide({i})")
                high, wide, room = page.evaluate(
                    "(s => [s.scrollHeight, s.scrollWidth, s.clientWidth])(Reveal.getCurrentSlide())"
                )
                if high > 720 or wide > room:
                    faults.append(f"{path.stem}, slide {i}: {wide} x {high}")
        browser.close()
    assert not faults
