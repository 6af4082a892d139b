.PHONY: demo test test-long test-browser test-systemd audit campaign campaign-mutants campaign-process fuzz bench lint format types lock
.DELETE_ON_ERROR:

# Root needs no sudo, and a container often has none.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

demo: .venv/.run
	.venv/bin/reconciler demo

test: .venv/.ok
	.venv/bin/pytest -q -n $$(($$(nproc) + 1)) --dist worksteal

# What takes about a minute by itself, such as a service that is killed fifty times.
test-long: .venv/.ok
	.venv/bin/pytest -q -m long

# The HTML reports in Debian's Chromium; `make test` needs no browser and leaves these out.
test-browser: .venv/.browser
	.venv/bin/pytest -q tests/browser

# The units on a real systemd, as root on Debian 12 with debootstrap; elsewhere it says why it is skipped.
test-systemd: .venv/.ok
	.venv/bin/pytest -q -rs --timeout=900 tests/systemd/test_service.py

# Known vulnerabilities of the locked dependencies, as far as the data can be reached; it says how far.
audit: .venv/.audit
	.venv/bin/python .ci/audit.py .venv/bin/pip-audit

# Histories of faults, see tests/campaign/README.md: so many seeds, of so many steps, in so many processes.
SEEDS := 10000
LENGTH := 40
JOBS := 2

campaign: .venv/.ok
	.venv/bin/python -m tests.campaign --seeds $(SEEDS) --length $(LENGTH) --jobs $(JOBS)

campaign-mutants: .venv/.ok
	.venv/bin/python -m tests.campaign --mutants --seeds 200 --length $(LENGTH) --jobs $(JOBS)

# The share with real processes on real sockets: some ten seconds each.
campaign-process: .venv/.ok
	.venv/bin/python -m tests.campaign --process --seeds $(SEEDS) --jobs $(JOBS)

# Hostile replies, settings, saved plans and state files, see tests/fuzz/README.md.
INPUTS := 100000

fuzz: .venv/.ok
	.venv/bin/python -m tests.fuzz --inputs $(INPUTS) --jobs $(JOBS)

# How large, how slow, how hungry; benchmarks/README.md has the figures.
bench: .venv/.ok
	.venv/bin/python -m benchmarks.years
	.venv/bin/python -m benchmarks.statefile
	.venv/bin/python -m benchmarks.idle

lint: .venv/.ok
	.venv/bin/ruff check
	.venv/bin/ruff format --check

format: .venv/.ok
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

types: .venv/.ok
	.venv/bin/mypy

# Versions and hashes only: which index serves them is the business of whoever installs. The first is what runs on a
# server, the others add to it what tests need, in the same versions.
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--upgrade pyproject.toml

lock: .venv/.ok
	.venv/bin/pip install --quiet uv
	$(COMPILE) --extra build -o requirements.lock
	$(COMPILE) --extra build --extra test --constraint requirements.lock -o requirements-test.lock
	$(COMPILE) --extra browser --constraint requirements-test.lock -o requirements-browser.lock
	$(COMPILE) --extra audit --constraint requirements-test.lock -o requirements-audit.lock
	! grep -n '://' requirements*.lock

# Debian and Ubuntu ship Python without ensurepip; it comes with python3-venv.
.venv/.run: requirements.lock pyproject.toml
	python3 -c 'import ensurepip' 2>/dev/null || \
		{ $(SUDO) apt-get update && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y python3-venv; }
	python3 -m venv .venv
	.venv/bin/pip install --require-hashes -r requirements.lock
	.venv/bin/pip install --no-deps --no-build-isolation -e .
	touch $@

.venv/.ok: .venv/.run requirements-test.lock
	.venv/bin/pip install --require-hashes -r requirements-test.lock
	touch $@

.venv/.browser: .venv/.ok requirements-browser.lock
	command -v chromium >/dev/null || \
		{ $(SUDO) apt-get update && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y chromium; }
	.venv/bin/pip install --require-hashes -r requirements-browser.lock
	touch $@

.venv/.audit: .venv/.ok requirements-audit.lock
	.venv/bin/pip install --require-hashes -r requirements-audit.lock
	touch $@
