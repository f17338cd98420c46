# Everything a newcomer needs: `make demo` and `make test` set up the environment on first use.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FEAST := .venv-feast
FEAST_PINS := tests/feature_store/requirements.txt
PEERS := .venv-peers
PEERS_PINS := benchmarks/peers/requirements.txt
AIRFLOW := .venv-airflow
AIRFLOW_PINS := tests/airflow/requirements.txt
KSERVE := .venv-kserve
KSERVE_PINS := tests/kserve/requirements.txt
SERVICES := .venv-services
SERVICES_PINS := tests/services/requirements.txt

# pip compiles one file after another, which takes longer than all the rest: where it matters, all cores do it afterwards.
INSTALL := install --quiet --disable-pip-version-check --no-compile

# Files of tests with a small cluster each, two at a time, in the order given: long ones stand first.
BESIDE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test explore test-services test-airflow test-feast test-kserve bench-peers lint setup lock clean
.DEFAULT_GOAL := demo

demo: $(READY)
	@$(BIN)/rayline demo

test: $(READY)
	$(MAKE) -j 2 lint $(FEAST)/.ready $(KSERVE)/.ready
	$(BIN)/python -m pytest -n auto tests/unit tests/contracts tests/architecture tests/golden
	$(BIN)/python -m pytest $(BESIDE) tests/ray
	$(BIN)/python -m pytest $(BESIDE) tests/docs tests/e2e
	$(MAKE) -j 2 test-feast test-kserve

# The properties again, with other examples than `make test` has: what it finds is a fault that nobody knew.
explore: $(READY)
	$(BIN)/python -m pytest -n auto --hypothesis-profile explore tests/unit tests/contracts

# Feast needs an older pandas than ours: its packages lie in an environment of their own, before those of $(VENV).
test-feast: $(FEAST)/.ready
	FEAST_USAGE=False PYTHONPATH=$(CURDIR)/src $(FEAST)/bin/python -m pytest tests/feature_store

# kserve's client does not install beside our pins either: it is asked as a process of an environment of its own.
test-kserve: $(READY) $(KSERVE)/.ready
	KSERVE_PYTHON=$(CURDIR)/$(KSERVE)/bin/python $(BIN)/python -m pytest tests/kserve

# PostgreSQL, Prometheus and an S3 server, from Debian's packages and PyPI; .ci/run runs it after `make test`.
test-services: $(READY)
	$(MAKE) -j 2 $(SERVICES)/.ready $(AIRFLOW)/.ready
	tests/services/packages.sh
	PYTHONPATH=$(CURDIR)/src $(SERVICES)/bin/python -m pytest $(BESIDE) tests/services/test_[st]*.py tests/services/test_[!st]*.py
	$(MAKE) test-airflow

# Airflow brings a hundred packages of its own: it reads cluster/airflow as a process of an environment of its own.
test-airflow: $(READY) $(AIRFLOW)/.ready
	$(BIN)/python -m pytest tests/airflow

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
	@$(BIN)/python -m pip $(INSTALL) --constraint constraints.txt torch==2.13.0
	@$(BIN)/python -m pip $(INSTALL) --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true  # some bring files for other Pythons
	@touch $(READY)

# An environment of its own: the packages of a list of pins before those of $(VENV).
define beside
	@echo "Setting up $(1) from $(2)"
	@rm -rf $(1)
	@$(BIN)/python -m venv --without-pip $(1)
	@$(BIN)/python -m pip --python $(1)/bin/python $(INSTALL) --no-deps --requirement $(2)
	@$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> $$($(1)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main-environment.pth
	@touch $@
endef

$(FEAST)/.ready: $(READY) $(FEAST_PINS)
	$(call beside,$(FEAST),$(FEAST_PINS))

$(SERVICES)/.ready: $(READY) $(SERVICES_PINS)
	$(call beside,$(SERVICES),$(SERVICES_PINS))

$(PEERS)/.ready: $(READY) $(PEERS_PINS)
	$(call beside,$(PEERS),$(PEERS_PINS))

# The servers that benchmarks/serving.py compares with; without them it says which are missing.
bench-peers: $(PEERS)/.ready

$(KSERVE)/.ready: $(READY) $(KSERVE_PINS)
	@echo "Setting up $(KSERVE) from $(KSERVE_PINS)"
	@rm -rf $(KSERVE)
	@$(BIN)/python -m venv --without-pip $(KSERVE)
	@$(BIN)/python -m pip --python $(KSERVE)/bin/python $(INSTALL) --no-deps --requirement $(KSERVE_PINS)
	@touch $@

$(AIRFLOW)/.ready: $(READY) $(AIRFLOW_PINS)
	@echo "Setting up $(AIRFLOW) from $(AIRFLOW_PINS)"
	@rm -rf $(AIRFLOW)
	@$(BIN)/python -m venv --without-pip $(AIRFLOW)
	@$(BIN)/python -m pip --python $(AIRFLOW)/bin/python $(INSTALL) --no-deps --requirement $(AIRFLOW_PINS)
	@touch $@

# Write constraints.txt anew from what the newest allowed versions resolve to.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-lock/bin/python -m pip install --quiet --editable '.[dev,bench]'
	$(VENV)-lock/bin/python -m pip freeze --exclude-editable --exclude torch | sed 's/+cpu//' > constraints.txt
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(FEAST) $(PEERS) $(KSERVE) $(AIRFLOW) $(SERVICES) .services .mypy_cache .ruff_cache .pytest_cache .hypothesis
