# make course   run every chapter and leave pages to read in build/course
# make site     the same pages in build/site, of the chapters as they were committed, in a minute
# make lab      open the chapters in JupyterLab
# make handouts write the editions for students and teachers, and a course for nbgrader, to build/handouts
# make slides   make a deck of slides for each chapter in build/slides
# make offline  pack wheels, data and pages for a room without a network in build/offline
# make quick    check the code and run the unit tests that take seconds, in under three minutes
# make test     check the code and run every test
# make coverage list the lines of the package that no unit test reaches
# make ranges   run the unit tests on the lowest and the newest versions that pyproject.toml allows
# make clean    remove .venv and build
#
# Each sets up .venv by itself, needs only Python 3.11, 3.12 or 3.13, and is quick when nothing changed.

PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

SOURCES := $(wildcard conftest.py tfae/*.py tests/*.py tools/*.py benchmarks/*.py docs/*.* docs/_static/* .github/workflows/* data/* chapters/*.ipynb chapters/*.bib chapters/exercises/*.py *.toml *.yml *.md)
TESTED := build/tested$(if $(TFAE_DATA_DIR),-with-real-data)

# A worker for each core, four at most, since each may need 3 GB. Files and chapters stay whole: their tests share much.
# Their order is that of conftest.py, the longest first.
PARALLEL := -n logical --maxprocesses=4 --dist loadfile --no-loadscope-reorder

define CHECKS
@$(BIN)/ruff check .
@$(BIN)/ruff format --check -q tfae tests tools benchmarks docs
@$(BIN)/mypy
endef

.PHONY: course site lab handouts slides offline quick test coverage ranges clean

course: .venv/installed
	@$(BIN)/python tools/run_course.py

site: .venv/installed
	@$(BIN)/python tools/run_course.py --no-run

# TensorFlow calls it an error that a processor has no AVX-512.
lab: export TF_CPP_MIN_LOG_LEVEL ?= 3
lab: .venv/installed
	@$(BIN)/jupyter lab chapters

test: $(TESTED)
	@echo "all tests pass, and nothing has changed since; 'make -B test' runs them again"

$(TESTED): .venv/installed $(SOURCES)
	$(CHECKS)
	@$(BIN)/python -m pytest tests $(PARALLEL)
	@$(BIN)/python -m pytest chapters $(PARALLEL)
	@mkdir -p build && touch $@

handouts: .venv/installed
	@$(BIN)/python tools/make_handouts.py

slides: .venv/installed
	@$(BIN)/python tools/make_slides.py

offline: .venv/installed
	@$(BIN)/python tools/make_offline.py

quick: .venv/installed
	$(CHECKS)
	@$(BIN)/python -m pytest tests -m "not slow" $(PARALLEL)

coverage: .venv/installed
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest tests $(PARALLEL)
	@$(BIN)/python -m coverage combine -q
	@$(BIN)/python -m coverage report

ranges: .venv/installed
	@$(BIN)/python tools/try_ranges.py -- $(PARALLEL)

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit('Python 3.11, 3.12 or 3.13 is needed (TensorFlow 2.21 has no wheel for 3.14), this is ' + sys.version.split()[0] + '. Say which one to use: make course PYTHON=python3.12') if not (3, 11) <= sys.version_info < (3, 14) else None"
	@echo "setting up .venv (once; two to five minutes, most of it TensorFlow's 600 MB)"
	@$(PYTHON) -m venv $$(test -f $@ || echo --clear) .venv  # what a failed attempt left is not built upon
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[course,test]"
	@touch $@

clean:
	rm -rf .venv build
