# Every target sets up what it needs: a machine with Python 3.11 (and the pip that came with it) and make is enough.
# Only the tests in tests/netns want root, and iproute2; one in tests/interop wants Chromium, tests/fleet a Redis server.
# Stamp files in the virtual environments say what is installed, so that a second run starts at once.
# What gets installed is written down in pyproject.toml alone.

.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

# The first Python that is new enough; or say: make test PYTHON=/path/to/python
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
endif

VENV := .venv
CORE_VENV := .venv-core
COMPILED_VENV := .venv-compiled
BIN := $(VENV)/bin
INSTALL := -m pip --disable-pip-version-check --quiet install
TYPED := $(wildcard stt_core stt_backends stt_anyio stt_trio tests fuzz benchmarks examples tools docs/make_diagrams.py)
FUZZ_SECONDS := 30
SHIPPED := $(shell find stt_core stt_backends stt_anyio stt_trio -name '*.py' 2>/dev/null)
# What the compiled build is held to: all that runs the core, but for what looks into Python's frames or the tooling.
COMPILED_TESTS := tests/test_build.py $(wildcard tests/core tests/handshake tests/conformance tests/property tests/sim \
	tests/threats tests/backends tests/anyio_adapter tests/trio_adapter) \
	tests/fuzz/test_corpus.py::test_the_corpus_holds tests/fuzz/test_corpus.py::test_mutations_of_the_corpus_hold

.PHONY: help install demo test test-core compiled iproute2 chromium redis-server lint format bench guard fuzz docs clean

help:
	@echo "make demo     see a file cross between two processes of this machine, and UDP cut half-way"
	@echo "make test     lint, types, layering and every test; as root, for those that make network namespaces"
	@echo "make install  the library and the stt command, in $(VENV)"
	@echo "make lint     ruff, mypy and the import contracts only;  make format  lets ruff mend what it can"
	@echo "make bench    STT beside its peers, a quarter of an hour;  make guard  what a packet costs, in calls and instructions"
	@echo "make compiled builds the compiled wheel, in $(COMPILED_VENV), and runs the tests over it"
	@echo "make fuzz     a bounded fuzzing session ($(FUZZ_SECONDS) s, FUZZ_SECONDS=...)"
	@echo "make docs     draw the state diagrams from the tables anew;  make clean  removes all that was installed"

install: $(VENV)/.installed

demo: install
	$(BIN)/stt demo

test: lint test-core iproute2 chromium redis-server
	$(BIN)/python -m pytest

# tests/netns makes network namespaces with ip(8), as root; a test says so where either is missing.
iproute2:
	@PATH="$$PATH:/usr/sbin:/sbin"; command -v ip >/dev/null || test "$$(id -u)" != 0 || \
	! command -v apt-get >/dev/null || \
	{ apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends iproute2; }

# tests/interop/test_chromium.py opens a WebSocket from a browser; it is skipped where there is none.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	{ apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium; } || \
	echo "no Chromium could be installed: tests/interop/test_chromium.py will be skipped" >&2

# tests/fleet starts a Redis server of its own; it is skipped where there is none.
redis-server:
	@command -v redis-server >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	{ apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends redis-server; } || \
	echo "no redis-server could be installed: tests/fleet will be skipped" >&2

# The core's own tests, in an environment that holds pytest and nothing else: the proof that the core needs nothing.
test-core: $(CORE_VENV)/.ready
	$(CORE_VENV)/bin/python -m pytest tests/core

# The same tests over the compiled build (tools/compiled.py). Neither Python nor pytest may look for modules here first.
compiled: $(COMPILED_VENV)/.ready
	STT_BUILD=compiled PYTHONSAFEPATH=1 PYTHONPATH= $(COMPILED_VENV)/bin/python -m pytest -o pythonpath= $(COMPILED_TESTS)

lint: $(VENV)/.group-lint $(VENV)/.group-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

format: $(VENV)/.group-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.group-bench
	$(BIN)/python -m benchmarks

guard: install
	$(BIN)/python -m benchmarks.guard
	! command -v valgrind >/dev/null || $(BIN)/python -m benchmarks.guard --instructions

fuzz: $(VENV)/.group-fuzz
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS)

docs: $(VENV)/.group-docs
	$(BIN)/python docs/make_diagrams.py

clean:
	rm -rf $(VENV) $(CORE_VENV) $(COMPILED_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created $(CORE_VENV)/.created $(COMPILED_VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(@D)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	$(BIN)/python $(INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.group-%: pyproject.toml tools/groups.py $(VENV)/.installed
	@$(BIN)/python tools/groups.py $* > $@.txt
	test ! -s $@.txt || $(BIN)/python $(INSTALL) --requirement $@.txt
	@touch $@

$(CORE_VENV)/.ready: pyproject.toml tools/groups.py $(CORE_VENV)/.created
	@$(CORE_VENV)/bin/python tools/groups.py core > $@.txt
	$(CORE_VENV)/bin/python $(INSTALL) --requirement $@.txt
	@touch $@

# Tests, and nothing else, come from here: what is installed stands before this directory on the path.
$(COMPILED_VENV)/.ready: pyproject.toml tools/compiled.py tools/groups.py $(SHIPPED) $(COMPILED_VENV)/.created
	@$(COMPILED_VENV)/bin/python tools/groups.py test > $@.txt
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(COMPILED_VENV)/bin/python $(INSTALL) '.[all]' --requirement $@.txt
	@$(COMPILED_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $@.txt
	@echo "$(CURDIR)" > "$$(cat $@.txt)/tests-of-stt.pth"
	@touch $@
