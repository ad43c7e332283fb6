# Familiar's commands. Each sets up what it needs, once; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PROFILE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
UV_VERSION := 0.13.9
# uv does not read pip's variable for a folder of wheels; a machine that has such a folder sets either.
UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_FIND_LINKS

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
LIST := requirements/$(PROFILE).txt
READY := $(VENV)/.ready-$(PROFILE)

.PHONY: help setup chat telegram ingest serve stop finetune promote rollback test test-fast lint format lock bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(READY) ## install packages and the bundled model, once
	@$(BIN)/familiar models prepare

chat: $(READY) ## talk to the assistant in this terminal
	@$(BIN)/familiar chat

telegram: $(READY) ## answer people on Telegram
	@$(BIN)/familiar telegram

ingest: $(READY) ## take in what is new in the folder of documents
	@$(BIN)/familiar knowledge sync

serve: $(READY) ## start the engine and keep it in the foreground's view
	@$(BIN)/familiar serve

stop: ## stop the engine
	@test ! -x $(BIN)/familiar || $(BIN)/familiar stop

finetune: $(READY) ## learn from the log, and put what was learnt in force if it is better
	@$(BIN)/familiar finetune run

promote: $(READY) ## put a version in force for everybody: make promote VERSION=7
	@test -n '$(VERSION)' || { echo 'Which one? make promote VERSION=7; `familiar adapters list` shows what there is.'; exit 1; }
	@$(BIN)/familiar finetune promote '$(VERSION)'

rollback: $(READY) ## one step back, at once: the version before answers again
	@$(BIN)/familiar finetune rollback

test: $(READY) ## run every test, those against a real vLLM included
	@$(BIN)/pytest

test-fast: $(READY) ## run the tests that need no engine
	@$(BIN)/pytest -m 'not live'

lint: $(READY) ## ruff, mypy and the floors' import contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## measure what the README claims (10 minutes or more)
	@for b in overhead engines prefix; do $(BIN)/python -m bench.$$b || exit 1; done

# Both lists are made anew from pyproject.toml. Neither may hold an address or a path.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade
lock: $(UV) ## resolve requirements/{cpu,gpu}.txt anew from pyproject.toml
	$(COMPILE) --override requirements/cpu-overrides.txt --extra cpu --extra dev pyproject.toml -o requirements/cpu.txt \
	|| $(COMPILE) --torch-backend=cpu --override requirements/cpu-overrides.txt --extra cpu --extra dev pyproject.toml -o requirements/cpu.txt
	$(COMPILE) --override requirements/gpu-overrides.txt --extra gpu --extra dev pyproject.toml -o requirements/gpu.txt
	@! grep -nE '://|@ |(^|[ =])/' requirements/cpu.txt requirements/gpu.txt \
	|| { echo 'make lock: a list holds an address or a path; see the lines above.'; exit 1; }

clean: stop ## remove the environment; conversations and models in var/ stay
	rm -rf $(VENV)

$(UV):
	@test -n '$(PYTHON)' || { echo 'Familiar needs Python 3.11, 3.12 or 3.13 and found none on PATH. Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11 …'; exit 1; }
	@echo '· creating $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV) || { echo 'Could not create $(VENV). On Debian and Ubuntu the module venv is a package of its own: apt install python3-venv'; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv==$(UV_VERSION)' \
	|| { echo 'Could not install uv into $(VENV). Is the network up? Run the same command again to go on from here.'; exit 1; }

# --no-deps: the list is complete. --compile-bytecode: most of the engine's start is imports (docs/tuning.md).
INSTALL = $(UV) pip install --python $(BIN)/python --no-deps --compile-bytecode
$(READY): $(LIST) pyproject.toml | $(UV)
	@echo '· installing the packages of $(LIST) (3 GB on disk; a few minutes on a slow network)'
	@$(INSTALL) --requirements $(LIST) \
	|| { echo '· second try, with the CPU build of torch from its own index'; $(INSTALL) --torch-backend=cpu --requirements $(LIST); } \
	|| { echo 'Installing the packages failed; the reason stands above. Is there network and 6 GB of free disk? Run the same command again: what was downloaded is kept.'; exit 1; }
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-*; touch $@
