PYTHON ?= python3
INSTALL = $(PYTHON) -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r

MANAGE = .venv/bin/python manage.py
COMPILE = .venv/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links pyproject.toml
SBOM = sbom.json

.PHONY: help run test check fix lint mutants bench fairness revocation picture overload pages silence lock sbom

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

run: .venv/run ## install and serve the console and the gate
	@exec .venv/bin/python -m console.start

test: .venv/dev ## run the tests, on SQLite and on PostgreSQL
	@exec .venv/bin/python -m tests

check: lint ## what every commit must pass: lint, Django's checks, missing migrations
	@$(MANAGE) check --settings tests.support.settings
	@$(MANAGE) makemigrations --check --dry-run --settings tests.support.settings

fix: .venv/dev ## apply the linter's fixes, and format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

lint: .venv/dev ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

mutants: .venv/dev ## change the code in a thousand small ways: do the tests notice? (needs PostgreSQL)
	@exec .venv/bin/python -m tests.mutants

bench: .venv-bench/ready ## measure the gate beside other programs (needs wrk; PostgreSQL for its rows)
	@exec .venv-bench/bin/python -m bench.speed

fairness: .venv/dev ## do abusive callers slow down the others?
	@exec .venv/bin/python -m bench.fairness

revocation: .venv/dev ## delete 1,000 keys under load: is a deleted key ever accepted?
	@exec .venv/bin/python -m bench.revocation

picture: .venv/dev ## take docs/console.png again (needs Chromium)
	@exec .venv/bin/python -m docs.picture

overload: .venv/dev ## delete keys while 200 clients hold the console: how long does an owner wait? (needs nginx)
	@exec .venv/bin/python -m bench.overload

pages: .venv/dev ## time pages and exports of accounts that were used for years (needs PostgreSQL for its half)
	@exec .venv/bin/python -m bench.pages

silence: .venv/dev ## stop PostgreSQL: how long do pages, /healthz, recovery and a stop take? (needs PostgreSQL)
	@exec .venv/bin/python -m bench.silence

lock: .venv/dev ## renew the pinned requirements from pyproject.toml, with the newest versions that fit
	$(COMPILE) -o requirements.txt
	$(COMPILE) --group dev -o requirements-dev.txt

sbom: .venv/dev ## write the software bill of materials (CycloneDX)
	@PYTHONWARNINGS=ignore .venv/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml -o $(SBOM) requirements.txt

.venv/run: requirements.txt
	@echo "Installing into .venv ..."
	@$(INSTALL) requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt
	@echo "Installing into .venv, with what the tests need ..."
	@$(INSTALL) requirements-dev.txt
	@touch $@

.venv-bench/ready: bench/requirements.txt
	@echo "Installing into .venv-bench ..."
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.txt
	@touch $@
