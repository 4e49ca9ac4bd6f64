"""The bibliography and the reading lists of the chapters say the same."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from pybtex.database import parse_file

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
YEAR = re.compile(r"\b(?:19|20)\d\d\b")
WITHOUT_ADDRESS = {  # textbooks, notes and proceedings that have neither a number nor a page of their own
    "erhan2009visualizing",
    "fant1960acoustic",
    "goodfellow2016deep",
    "hoffman2016elbo",
    "levina2004maximum",
    "mackay2003information",
    "martin1979range",
    "ng2011sparse",
    "rifai2011contractive",
    "sohn2015learning",
}


def plain(text):
    """Lower case, without accents, TeX's or Unicode's, and without punctuation."""
    text = re.sub(r"\\[^a-zA-Z]|\\(?=i\b)|\\[a-zA-Z]\b|[{}]", "", text).replace("ı", "i")
    text = unicodedata.normalize("NFKD", text)
    return " ".join(re.findall(r"[a-z0-9]+", "".join(c for c in text if not unicodedata.combining(c)).lower()))


def prose(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.fixture(scope="module")
def entries():
    return dict(parse_file(CHAPTERS / "references.bib").entries)  # which raises where a brace is missing


@pytest.fixture(scope="module")
def reading():
    """Each item of each chapter's list."""
    texts = {path.stem: prose(path) for path in sorted(CHAPTERS.glob("[0-9]*.ipynb"))}
    assert len(texts) == 17
    lists = {name: text.partition("## Reading\n")[2].partition("\n#")[0] for name, text in texts.items()}
    return [(name, item) for name, items in lists.items() for item in re.findall(r"^- (.*)$", items, re.MULTILINE)]


def cited(item, entries):
    """Return the keys of the works that an item names, by title and first author or by number."""
    titles = [plain(title) for title in re.findall(r"\*(.+?)\*", item) + re.findall(r'"(.+?)"', item)]
    words, numbers, keys = plain(item), ARXIV.findall(item), set()
    for key, entry in entries.items():
        title, author = plain(entry.fields["title"]), plain(" ".join(entry.persons["author"][0].last_names))
        by_title = any(f"{title} ".startswith(f"{wanted} ") for wanted in titles if wanted)
        if f" {author} " in f" {words} " and (by_title or entry.fields.get("eprint") in numbers):
            keys.add(key)
    return keys


def test_every_work_on_a_reading_list_is_in_the_bibliography_and_every_entry_on_a_list(entries, reading):
    used = set()
    for chapter, item in reading:
        if item.startswith("Regulations"):
            continue
        keys = cited(item, entries)
        years = [int(year) for year in YEAR.findall(ARXIV.sub("", item))]
        assert len(keys) == len(years), f"{chapter}: {item!r} names {len(years)} works, the bibliography has {keys}"
        for key in keys:  # a preprint may be two years older than the paper
            assert min(abs(int(entries[key].fields["year"]) - year) for year in years) <= 2, (chapter, item)
        used |= keys
    assert used == set(entries)


def test_identifiers_are_well_formed_and_name_one_work_each(entries):
    seen = set()
    for key, entry in entries.items():
        fields = entry.fields
        assert not re.search("arxiv:|doi:", fields.get("note", ""), re.IGNORECASE), f"{key}: give eprint= or doi="
        assert (fields.get("archiveprefix") == "arXiv") == ("eprint" in fields), key
        if "eprint" in fields:
            year, month = re.fullmatch(r"(\d\d)(0[1-9]|1[0-2])\.\d{4,5}", fields["eprint"]).groups()
            assert 0 <= int(fields["year"]) - (2000 + int(year)) <= 5, key  # printed after it was submitted
            assert len(fields["eprint"]) == (9 if int(year + month) < 1501 else 10), key  # a fifth digit since 2015
        assert re.fullmatch(r"10\.\d{4,9}/\S+", fields.get("doi", "10.1234/none")), key
        named = {fields[name] for name in ("eprint", "doi") if name in fields}
        assert not named & seen, f"{key} has the identifier of another entry"
        seen |= named


def test_every_work_that_has_an_address_is_given_with_it(entries):
    without = {key for key, entry in entries.items() if not {"eprint", "doi", "url"} & set(entry.fields)}
    assert without == WITHOUT_ADDRESS


def test_every_arxiv_number_in_the_chapters_is_that_of_an_entry(entries):
    misprinted = {"1705.07871", "1703.01901"}  # in article 004; the errata put them right
    known = {entry.fields.get("eprint") for entry in entries.values()}
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        unknown = set(ARXIV.findall(prose(path))) - known
        assert unknown == (misprinted if path.stem == "A2_errata" else set()), f"{path.stem}: {unknown}"
