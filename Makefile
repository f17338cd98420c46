# Everything a newcomer needs: `make demo` and `make test` set up the environment on first use.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FEAST := .venv-feast
FEAST_PINS := tests/feature_store/requirements.txt
PEERS := .venv-peers
PEERS_PINS := benchmarks/peers/requirements.txt

.PHONY: demo test test-feast bench-peers lint setup lock clean
.DEFAULT_GOAL := demo

demo: $(READY)
	@$(BIN)/rayline demo

test: $(READY) lint
	$(BIN)/python -m pytest tests/unit tests/contracts tests/architecture tests/golden
	$(BIN)/python -m pytest tests/ray
	$(BIN)/python -m pytest tests/e2e tests/docs
	$(MAKE) test-feast

# Feast needs an older pandas than ours: its packages lie in an environment of their own, before those of $(VENV).
test-feast: $(FEAST)/.ready
	FEAST_USAGE=False PYTHONPATH=$(CURDIR)/src $(FEAST)/bin/python -m pytest tests/feature_store

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; set PYTHON=/path/to/python3.11"; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, not $$($(PYTHON) --version)"; exit 3; }
	@echo "Setting up $(VENV) from constraints.txt (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

# An environment of its own: the packages of a list of pins before those of $(VENV).
define beside
	@echo "Setting up $(1) from $(2)"
	@rm -rf $(1)
	@$(BIN)/python -m venv --without-pip $(1)
	@$(BIN)/python -m pip --python $(1)/bin/python install --quiet --disable-pip-version-check --no-deps --requirement $(2)
	@$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> $$($(1)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main-environment.pth
	@touch $@
endef

$(FEAST)/.ready: $(READY) $(FEAST_PINS)
	$(call beside,$(FEAST),$(FEAST_PINS))

$(PEERS)/.ready: $(READY) $(PEERS_PINS)
	$(call beside,$(PEERS),$(PEERS_PINS))

# The servers that benchmarks/serving.py compares with; without them it says which are missing.
bench-peers: $(PEERS)/.ready

# Write constraints.txt anew from what the newest allowed versions resolve to.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-lock/bin/python -m pip install --quiet --editable '.[dev,bench]'
	$(VENV)-lock/bin/python -m pip freeze --exclude-editable --exclude torch | sed 's/+cpu//' > constraints.txt
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(FEAST) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis
