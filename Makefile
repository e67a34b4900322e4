# Every target sets up .venv by itself. Another Python: `PYTHON=python3.12 make book`.
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/ready

# glibc returns torch's big buffers to the system after every batch and takes them back
# page by page, which halves the speed on a CPU. Above these sizes (4 GiB) it does.
export MALLOC_MMAP_THRESHOLD_ ?= 4294967296
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296
export XAI_PROFILE ?= quick

.DEFAULT_GOAL := help
.PHONY: help book test lint lab figures outputs bench site pdf student browser colab matrix fuzz lock clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

book: $(READY)  ## execute all notebooks; results and figures in _build/
	$(PY) tools/build_book.py

test: lint  ## lint, unit tests, and all notebooks against their committed outputs
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadscope --no-loadscope-reorder \
		--nbval --nbval-current-env notebooks/reproduce notebooks/*.ipynb

lint: $(READY)  ## ruff, types, and whether generated files are in sync
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) tools/sync_environment.py --check
	$(PY) tools/sync_notebooks.py --check
	$(PY) tools/lock.py --check

lab: $(READY)  ## open the book in JupyterLab
	$(PY) -m jupyter lab --notebook-dir=notebooks

figures: $(READY)  ## take the figures out of the committed notebooks into _build/figures/
	$(PY) tools/build_book.py --figures-only

outputs: $(READY)  ## execute all notebooks and save the outputs in notebooks/
	$(PY) tools/sync_notebooks.py
	$(PY) tools/build_book.py --write

bench: $(READY)  ## run every script in benchmarks/ and store its ratios
	@set -e; for script in $(filter-out %/timing.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(PY) $$script; done

site: $(READY)  ## build the site into _build/site/, without executing anything
	$(PY) tools/build_site.py

pdf: site  ## print the book with Debian's chromium into _build/book.pdf
	$(PY) tools/build_pdf.py

student: $(READY)  ## write the chapters without solutions into _build/student/
	$(PY) tools/make_student.py

browser: $(READY)  ## open every page and move every widget in Chromium (half an hour)
	XAI_BROWSER=1 $(PY) -m pytest tests/browser

colab: $(READY)  ## install the library as Colab would, in an environment of its own
	XAI_COLAB=1 $(PY) -m pytest tests/tools/test_colab.py

matrix: $(READY)  ## tests and chapters on floors, Colab's versions, newest, other processors
	$(PY) tools/matrix.py

fuzz: $(READY)  ## 10,000 random calls, and many writers and threads at once
	XAI_FUZZ=10000 XAI_WRITERS=720 $(PY) -m pytest tests/fuzz tests/studies/test_results.py

lock: $(READY)  ## write constraints/ anew, with today's versions
	$(PY) tools/lock.py

clean:  ## remove what the other targets made, but not .venv
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Installs again only when pyproject.toml or the locked versions have changed.
$(READY): pyproject.toml constraints/book.txt
	@echo "Setting up .venv; the first time this downloads several GB (torch, CUDA)."
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q -c constraints/book.txt -e '.[dev]'
	@touch $@
