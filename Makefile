# make demo   episodes -> training -> a planning agent -> demo/report/index.html
# make test   the whole test suite, by two processes; WORKERS=8 takes eight
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long test-space test-lerobot test-timm test-lowest lint types clean

# Rewritten whenever the metadata or the pinned set changes, so that a stale environment repairs itself.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python tests/common/fetch.py
	touch $@

demo: $(VENV)/.installed
	$(BIN)/lewm demo --out demo

# Neighbors share what their file builds, so each process gets a stretch of the tests and steals when it is done.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-long: $(VENV)/.installed
	$(BIN)/python -m pytest -m long

# The Space lives apart: Gradio wants an older Pillow than the tested set has.
SPACE := model_cards/space
SPACE_VENV := .venv-space
CHROMIUM ?= /usr/bin/chromium

$(SPACE_VENV)/.installed: pyproject.toml constraints.txt $(SPACE)/requirements.txt $(SPACE)/README.md
	test -x $(SPACE_VENV)/bin/python || $(PYTHON) -m venv $(SPACE_VENV)
	grep -iv '^pillow==' constraints.txt > $(SPACE_VENV)/constraints.txt
	$(SPACE_VENV)/bin/python -m pip install --quiet --constraint $(SPACE_VENV)/constraints.txt torch
	$(SPACE_VENV)/bin/python -m pip install --quiet --constraint $(SPACE_VENV)/constraints.txt \
		--editable '.[envs,eval]' "gradio==$$(sed -n 's/^sdk_version: //p' $(SPACE)/README.md)" \
		pytest pytest-timeout hypothesis playwright
	touch $@

test-space: $(SPACE_VENV)/.installed
	@test -x $(CHROMIUM) || { apt-get update && apt-get install --yes --no-install-recommends chromium; } \
		|| { echo "install Chromium, or name it: make test-space CHROMIUM=/path/to/chromium"; exit 1; }
	CHROMIUM=$(CHROMIUM) $(SPACE_VENV)/bin/python -m pytest tests/space -m "space or not long"

# lerobot pins older libraries than the tested set, and wants Python 3.12: it lives apart, and reads what this one wrote.
LEROBOT_PYTHON ?= python3.12
LEROBOT_VENV := .venv-lerobot

$(LEROBOT_VENV)/.installed: Makefile
	test -x $(LEROBOT_VENV)/bin/python || $(LEROBOT_PYTHON) -m venv $(LEROBOT_VENV)
	$(LEROBOT_VENV)/bin/python -m pip install --quiet 'lerobot[dataset]>=0.4,<0.7'
	touch $@

test-lerobot: $(VENV)/.installed $(LEROBOT_VENV)/.installed
	LEROBOT_PYTHON=$(abspath $(LEROBOT_VENV)/bin/python) $(BIN)/python -m pytest tests/lerobot -m long

# timm imports torchvision, which has to be of the same build as torch: both from one index. Where pip also knows a folder
# of wheels with another torch: make test-timm TIMM_PIP_ENV='env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null'
TIMM_VENV := .venv-timm
TIMM_PIP_ENV ?=

$(TIMM_VENV)/.installed: pyproject.toml constraints.txt
	test -x $(TIMM_VENV)/bin/python || $(PYTHON) -m venv $(TIMM_VENV)
	grep -ivE '^(torchao|setuptools)==' constraints.txt > $(TIMM_VENV)/constraints.txt
	$(TIMM_PIP_ENV) $(TIMM_VENV)/bin/python -m pip install --quiet --constraint $(TIMM_VENV)/constraints.txt \
		torch torchvision timm
	$(TIMM_VENV)/bin/python -m pip install --quiet --constraint $(TIMM_VENV)/constraints.txt \
		--editable '.[timm,tworoom,eval]' pytest pytest-timeout hypothesis
	touch $@

test-timm: $(TIMM_VENV)/.installed
	$(TIMM_VENV)/bin/python -m pytest tests/backbones -m long

# The oldest versions that pyproject.toml allows ("scipy>=1.14" is 1.14.* here), and what most people use of the package
# with them. PyPI's torch for Linux brings CUDA; where there is another: make test-lowest LOWEST_TORCH=torch==2.13.0+cpu
LOWEST_VENV ?= .venv-lowest
LOWEST_TORCH ?= torch==2.11.*
LOWEST_EXTRAS := tworoom,pusht,reacher,cube,train,eval,hdf5,lance,video
LOWEST_TESTS ?= tests/test_modeling.py tests/test_pipeline.py tests/test_configuration.py tests/planning/test_mpc.py \
	tests/data/test_episodes.py tests/data/importers tests/training/test_train.py tests/training/test_starting_point.py \
	tests/evaluation/success/test_run.py tests/hub

$(LOWEST_VENV)/.installed: pyproject.toml
	test -x $(LOWEST_VENV)/bin/python || $(PYTHON) -m venv $(LOWEST_VENV)
	sed '/^dev = /,/^]/d' pyproject.toml | grep -oE '"[A-Za-z0-9-]+>=[0-9.]+' | grep -vE '"(setuptools|torch)>' | tr -d '"' \
		| sed -E 's/>=([0-9]+)$$/>=\1.0/; s/>=(.*)/==\1.*/' | sort -u > $(LOWEST_VENV)/constraints.txt
	$(LOWEST_VENV)/bin/python -m pip install --quiet '$(LOWEST_TORCH)'
	$(LOWEST_VENV)/bin/python -m pip install --quiet --constraint $(LOWEST_VENV)/constraints.txt \
		--editable '.[$(LOWEST_EXTRAS)]' pytest pytest-timeout hypothesis
	touch $@

test-lowest: $(LOWEST_VENV)/.installed
	$(LOWEST_VENV)/bin/python -m pytest $(LOWEST_TESTS)

# What a merge left behind hides in text as well as in code.
lint: types
	! git grep -nIE '^(<{7}|>{7}) '
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The whole package and the scripts beside it; the public face also as a user's type checker sees it.
types: $(VENV)/.installed
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(SPACE_VENV) $(LEROBOT_VENV) $(TIMM_VENV) $(LOWEST_VENV) demo runs
