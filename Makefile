PYTHON ?= python3
INSTALL = $(PYTHON) -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r

.PHONY: run test mutants lint lock sbom bench revocation

run: .venv/run
	@exec .venv/bin/python -m console.start

test: .venv/dev
	@exec .venv/bin/python -m tests

# Do the tests notice small changes of what matters most? Needs PostgreSQL.
mutants: .venv/dev
	@exec .venv/bin/python -m tests.mutants

# Speed, side by side with others; needs wrk, and PostgreSQL for its rows.
bench: .venv-bench/ready
	@exec .venv-bench/bin/python -m bench.speed

.venv-bench/ready: bench/requirements.txt
	@echo "Installing into .venv-bench ..."
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.txt
	@touch $@

revocation: .venv/dev
	@exec .venv/bin/python -m bench.revocation

lint: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/run: requirements.txt
	@echo "Installing into .venv ..."
	@$(INSTALL) requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt
	@echo "Installing into .venv, with what the tests need ..."
	@$(INSTALL) requirements-dev.txt
	@touch $@

# Writes both requirements files anew from pyproject.toml, with the newest versions that fit.
COMPILE = .venv/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links pyproject.toml
lock: .venv/dev
	$(COMPILE) -o requirements.txt
	$(COMPILE) --group dev -o requirements-dev.txt

# What an installation is made of, for whoever audits it (CycloneDX).
SBOM = sbom.json
sbom: .venv/dev
	@PYTHONWARNINGS=ignore .venv/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml -o $(SBOM) requirements.txt
