"""The site, made once of the chapters as they were committed, then read, and opened in a browser without a network."""

import ast
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("[0-9A][0-9]_*.ipynb"))
MODULES = sorted(path.stem for path in (ROOT / "tfae").glob("*.py") if path.stem != "__init__")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("pages") / "site"
    command = [sys.executable, "tools/run_course.py", "--no-run", "--into", out]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    complaints = [line for line in run.stderr.splitlines() if re.search(r": (WARNING|ERROR|CRITICAL): ", line)]
    assert not complaints, "\n".join(complaints)
    return out


class Page(HTMLParser):
    """What a page has: the names of its places, its links, what it loads, its formulas, its words outside code."""

    def __init__(self, path):
        super().__init__()
        self.names, self.links, self.loads, self.formulas, self.words, self.open = set(), [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given.get("id"), given.get("name")} - {None}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe", "audio", "video", "source", "embed") and "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "modulepreload", "prefetch"):
            self.loads.append(given["href"])
        if tag == "math":
            self.formulas.append("")
        if tag not in ("meta", "link", "img", "input", "br", "hr", "source", "col", "wbr", "embed"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while tag in self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text):
        if "math" in self.open:
            self.formulas[-1] += text
        elif not {"pre", "code", "script", "style"} & set(self.open):
            self.words.append(text)


@cache
def page(path):
    return Page(path)


def pages(site):
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def prose(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


# --- the pages, read -------------------------------------------------------------------------------------------------


@slow
def test_every_chapter_and_every_module_has_its_page_and_is_reached_from_the_first(site):
    found = {str(path.relative_to(site)) for path in pages(site)}
    expected = {f"{path.stem}.html" for path in CHAPTERS} | {f"api/{name}.html" for name in MODULES}
    assert expected | {"bibliography.html", "results.html", "search.html"} <= found
    first = {urlsplit(link).path for link in page(site / "index.html").links}
    assert {f"{path.stem}.html" for path in CHAPTERS} | {"api/index.html", "results.html"} <= first


@slow
def test_every_link_and_anchor_leads_somewhere(site):
    broken = []
    for path in pages(site):
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            name = unquote(parts.fragment)
            if not target.exists() or (name and target.suffix == ".html" and name not in page(target).names):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken, "\n".join(broken)


@slow
def test_nothing_is_loaded_from_another_host(site):
    for path in pages(site):
        for source in page(path).loads:
            parts = urlsplit(source)
            assert parts.scheme in ("", "data") and not parts.netloc, f"{path.name} loads {source}"
            assert parts.scheme == "data" or (path.parent / unquote(parts.path)).exists(), f"{path.name} loads {source}"
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""<script[^>]*type=.?module|import\(?\s*['"]https?:""", text), path.name
    for path in site.rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        assert not re.search(r"""(url\(|@import)\s*['"]?(https?:)?//""", style), path.name


@slow
def test_the_first_page_has_the_explorer_that_the_package_has(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    script = (ROOT / "tfae" / "explorer.js").read_text(encoding="utf-8")
    assert json.dumps(script).replace("<", "\\u003c") in text, "python tools/film_explorer.py makes it anew"
    assert (ROOT / "tfae" / "explorer.css").read_text(encoding="utf-8") in text


@slow
def test_formulas_are_mathml_and_none_is_left_in_tex(site):
    for path in CHAPTERS:
        words = re.sub(r"```.*?```|`[^`\n]*`", "", prose(path), flags=re.DOTALL).replace("\\$", "")
        shown = page(site / f"{path.stem}.html")
        count = len(re.findall(r"\$\$.+?\$\$|\$[^$]+?\$", words, re.DOTALL))
        assert len(shown.formulas) >= count, f"{path.stem}: {count} formulas, {len(shown.formulas)} drawn"
    for path in pages(site):
        assert not [formula for formula in page(path).formulas if "\\" in formula], path.name
        assert not [words for words in page(path).words if "\\" in words or "$$" in words], path.name
    assert page(site / "02_mathematics.html").formulas


@slow
def test_solutions_are_folded_and_their_code_is_highlighted(site):
    for path in CHAPTERS:
        text = (site / f"{path.stem}.html").read_text(encoding="utf-8")
        folded = re.findall(r"<details><summary>Solution</summary>(.*?)</details>", text, re.DOTALL)
        assert len(folded) == prose(path).count("<details><summary>Solution</summary>"), path.stem
        code = sum("```python" in part.split("</details>")[0] for part in prose(path).split("<details>")[1:])
        assert sum('class="highlight-python' in solution for solution in folded) == code, path.stem


@slow
def test_outputs_are_those_that_were_committed(site):
    for path in CHAPTERS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        [key] = [cell for cell in cells if "key-result" in cell["metadata"].get("tags", ())]
        said = "".join("".join(output.get("text", "")) for output in key["outputs"]).split()
        for name in (f"{path.stem}.html", "results.html"):
            shown = " ".join(re.sub("<[^>]+>", "", (site / name).read_text(encoding="utf-8")).split())
            escaped = " ".join(said).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            assert escaped in shown or escaped.replace('"', "&quot;") in shown, f"{path.stem} in {name}"


@slow
def test_the_reference_has_every_public_name_and_the_chapter_that_teaches_it(site):
    import tfae

    for module in MODULES:
        shown = page(site / "api" / f"{module}.html")
        tree = ast.parse((ROOT / "tfae" / f"{module}.py").read_text(encoding="utf-8"))
        public = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
                  if not node.name.startswith("_") and ast.get_docstring(node)}  # fmt: skip
        assert {f"tfae.{module}.{name}" for name in public} <= shown.names, module
    for number, modules in re.findall(r"^(\d\d) [a-z ]+?  +(.+)$", tfae.__doc__, re.MULTILINE):
        [chapter] = site.glob(f"{number}_*.html")
        for module in modules.split(", "):
            assert f"../{chapter.name}" in page(site / "api" / f"{module}.html").links, f"{module} to {chapter.name}"
            assert f"api/{module}.html#module-tfae.{module}" in page(chapter).links, f"{chapter.name} to {module}"
    links = page(site / "01_concepts.html").links
    assert "api/autoencoder.html#tfae.autoencoder.Autoencoder" in links  # `models.Autoencoder`, in its prose


@slow
def test_the_buttons_of_a_repository_appear_only_where_one_is_named(site):
    for path in pages(site):
        links = [link for link in page(path).links if re.search(r"colab\.research|mybinder|/edit/|/blob/", link)]
        assert "In Colab, run" not in path.read_text(encoding="utf-8"), path.name
        assert not links, f"{path.name}: {links}"


# --- the pages, opened -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, **settings):
    """Return a page without a network, and the list of all that goes wrong on it."""
    context = browser.new_context(offline=True, **settings)
    tab, wrong = context.new_page(), []
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    left = "net::ERR_ABORTED"  # what was still loading when the next page was opened
    tab.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}") if request.failure != left else None)
    tab.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    return tab, wrong


@slow
def test_every_page_opens_without_an_error_and_fits_a_phone(site, browser):
    tab, wrong = opened(browser, viewport={"width": 390, "height": 844})
    found = []
    for path in pages(site):
        tab.goto(path.as_uri())
        width = tab.evaluate("document.documentElement.scrollWidth")
        found += [f"{path.relative_to(site)}: {said}" for said in wrong]
        found += [f"{path.relative_to(site)}: {width} pixels wide"] if width > 390 else []
        wrong.clear()
    tab.context.close()
    assert not found, "\n".join(found)


@slow
def test_a_phone_and_paper_leave_nothing_out_of_reach(site, browser):
    tab, _ = opened(browser, viewport={"width": 390, "height": 844})
    over = "[...document.querySelectorAll({!r})].filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1)"
    for name in ("results", "api/index"):
        tab.goto((site / f"{name}.html").as_uri())
        assert tab.evaluate(over.format(".pst-scrollable-table-container") + ".length") == 0, f"a table of {name}"
        split = "[...document.querySelectorAll('td:first-child code')].filter(e => e.getClientRects().length > 1)"
        assert tab.evaluate(split + ".map(e => e.textContent)") == []
    tab.goto((site / "05_variational.html").as_uri())
    sizes = tab.evaluate("['h1', 'h2'].map(h => parseFloat(getComputedStyle(document.querySelector(h)).fontSize))")
    assert sizes[0] > sizes[1]
    long = over.format(".bd-article pre")
    assert tab.evaluate(long + ".length") > 5
    assert tab.evaluate(long + ".every(e => getComputedStyle(e).overflowX === 'auto')")
    tab.emulate_media(media="print")
    assert tab.evaluate(long + ".map(e => e.textContent.trim().slice(0, 40))") == []
    tab.context.close()


KINDS = (
    "index", "02_mathematics", "14_sound_and_text", "A5_glossary", "teaching", "bibliography", "results", "search",
    "api/index", "api/anomaly",
)  # fmt: skip
IN_THE_DARK = ("index", "02_mathematics", "A5_glossary", "search", "api/anomaly")  # other colours: text, code, tables


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_every_kind_of_page(site, browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    tab, _ = opened(browser, viewport={"width": 1000, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    every = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]  # the dark pages differ in their colours alone
    rules = {"runOnly": every if scheme == "light" else ["color-contrast"], "resultTypes": ["violations"]}
    found = []
    for name in KINDS if scheme == "light" else IN_THE_DARK:
        tab.goto((site / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        for violation in axe.run(tab, context={"exclude": [["math"]]}, options=rules).response["violations"]:
            places = [node["target"] for node in violation["nodes"]]
            found.append(f"{name}: {violation['id']} at {len(places)} places, such as {places[:2]}")
    tab.context.close()
    assert not found, "\n".join(found)


@slow
def test_search_finds_what_a_chapter_says(site, browser):
    tab, wrong = opened(browser)
    tab.goto((site / "search.html").as_uri() + "?q=amortisation")
    tab.wait_for_selector("#search-results ul.search li a", timeout=10_000)
    tab.wait_for_function("document.querySelector('.search-summary')?.textContent.includes('found')")
    links = tab.eval_on_selector_all("#search-results ul.search li a", "links => links.map(link => link.href)")
    assert any("05_variational.html" in link for link in links), links
    tab.goto(next(link for link in links if "05_variational.html" in link))
    assert not wrong, wrong
    tab.context.close()


@slow
def test_code_has_buttons_to_copy_it_and_its_outputs_have_none(site, browser):
    tab, wrong = opened(browser)
    tab.goto((site / "01_concepts.html").as_uri())
    cells = tab.locator("div.cell_input").count()
    tab.wait_for_selector("button.copybtn", state="attached")
    assert tab.locator("div.cell_input button.copybtn").count() == cells > 20
    assert tab.locator("article details button.copybtn").count() >= 3
    assert tab.locator(".cell_output button.copybtn").count() == 0
    solution = tab.locator("article details", has_text="Solution").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    assert not wrong, wrong
    tab.context.close()


@slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_explorers_live_in_the_page_of_a_chapter(site, browser, scheme, width):
    """Two, put where `make course` puts them: into the output of the cell, in place of the picture."""
    chapter = (site / "05_variational.html").read_text(encoding="utf-8")
    assert 'There is one to touch on <a class="reference external" href="index.html">' in chapter
    fragment = (ROOT / "docs" / "explorer.html").read_text(encoding="utf-8")
    [picture] = re.findall(r'(<img [^>]+>)\n</div>\n<p class="still">.+</p>', chapter)
    alive = site / f"alive-{scheme}-{width}.html"
    alive.write_text(chapter.replace(picture, f'<div class="output text_html">{2 * fragment}</div>'), encoding="utf-8")
    tab, wrong = opened(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.goto(alive.as_uri())
    tab.wait_for_function("document.querySelectorAll('.tfae-explorer-host[data-ready]').length === 2")
    codes = "[...document.querySelectorAll('.tfae-explorer-host')].map(host => host.model.get('code').join())"
    inks = (
        "[...document.querySelectorAll('.pictures')].map(pictures => "
        "pictures.querySelectorAll('canvas')[1].toDataURL())"
    )
    tab.wait_for_timeout(100)
    code, ink = tab.evaluate(codes), tab.evaluate(inks)
    plane = tab.locator(".plane").nth(1)
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    tab.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.6 * box["height"], steps=3)
    tab.mouse.up()
    tab.wait_for_timeout(100)
    assert [a == b for a, b in zip(code, tab.evaluate(codes), strict=True)] == [True, False]
    assert [a == b for a, b in zip(ink, tab.evaluate(inks), strict=True)] == [True, False]
    ground = "getComputedStyle(document.querySelector('.text_html:has(.plane)')).backgroundColor"
    assert tab.evaluate(ground) == "rgba(0, 0, 0, 0)", "the theme's white below outputs in the dark"
    card = "getComputedStyle(document.querySelector('.tfae-explorer select')).backgroundColor"
    assert tab.evaluate(card) == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(23, 27, 33)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert not wrong, wrong
    tab.context.close()
    alive.unlink()


@slow
def test_the_choice_of_dark_or_light_is_kept_on_the_next_page_and_paper_is_white(site, browser):
    tab, wrong = opened(browser, color_scheme="light")
    tab.goto((site / "index.html").as_uri())
    tab.locator("button.theme-switch-button:visible").first.click()
    tab.locator("button.theme-change-button[data-mode=dark]:visible").first.click()
    tab.goto((site / "00_start_here.html").as_uri())
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.evaluate("addEventListener('beforeprint', () => (window.onPaper = document.documentElement.dataset.theme))")
    tab.pdf()
    assert tab.evaluate("[onPaper, document.documentElement.dataset.theme]") == ["light", "dark"]
    assert not wrong, wrong
    tab.context.close()


# --- the workflow that publishes it ----------------------------------------------------------------------------------


def test_the_workflow_tests_each_python_and_publishes_what_make_course_leaves():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    assert set(workflow[True]) == {"push", "pull_request", "workflow_dispatch"}  # YAML reads `on` as true
    jobs = workflow["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    allowed = re.search(r"3\.(\d+), 3\.(\d+) or 3\.(\d+) is needed", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert pythons == [f"3.{minor}" for minor in allowed.groups()]
    assert jobs["site"]["needs"] == "test" and jobs["site"]["permissions"]["pages"] == "write"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for job in jobs.values():
        assert job["runs-on"] and job["timeout-minutes"] <= 360
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/any@v1"))
            assert re.findall(r"^make (\w+)", step.get("run", "make course"))[0] in targets | {"test"}
    steps = {step["uses"].split("@")[0]: step for step in jobs["site"]["steps"] if "uses" in step}
    assert steps["actions/upload-pages-artifact"]["with"]["path"] == "build/course"
    address = f"${{{{ steps.{steps['actions/deploy-pages']['id']}.outputs.page_url }}}}"
    assert jobs["site"]["environment"]["url"] == address
