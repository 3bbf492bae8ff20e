# The front door: `make help` lists what can be asked for. Whatever a target needs it sets up itself.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# Targets share .venv and cargo's locks: side by side they would only wait for one another.
.NOTPARALLEL:

target_dir := $(or $(CARGO_TARGET_DIR),target)
host = $(shell rustc -vV | sed -n 's/^host: //p')
venv := .venv/bin

# Runs tests picked by name, but fails where there are none: no check may pass by having nothing to do.
run_some = { $(1) --list | grep ': test$$' >/dev/null || { echo "no such tests" >&2; exit 1; }; }; $(1)

# PyO3 and the shim are built for this interpreter.
export PYO3_PYTHON := $(CURDIR)/$(venv)/python
# Newer and older interpreters than PyO3 knows; the shim checks for itself.
export UNSAFE_PYO3_SKIP_VERSION_CHECK := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## check the toolchain, find or build an interpreter, make .venv (scripts/setup --help)
	@scripts/setup

.PHONY: toolchain
toolchain:
	@scripts/setup --toolchain

# What visitors bring is kept in .build/demo; the server says where it serves, and ends with Ctrl-C.
.PHONY: demo
demo: python ## serve a site and its background jobs in one process, at 127.0.0.1:8000 (DEMO_BIND), until Ctrl-C
	@echo; echo "Texts are uploaded and their words counted, in one process: http://$(DEMO_BIND)"; echo
	@WORDS_FOLDER=$(CURDIR)/.build/demo exec $(venv)/roving serve words_site:app --tasks words_site:tasks \
		--app-dir examples/python --bind $(DEMO_BIND)
DEMO_BIND ?= 127.0.0.1:8000

.PHONY: python
python: setup ## build the Python package into .venv
	scripts/build-python $(venv)/python

# The build of the Python package whose protections tests take away.
.PHONY: faulty
faulty: setup
	scripts/build-python $(venv)/python --faulty

.PHONY: test
test: setup faulty python ## run all tests that are quick: Rust, layering, Python
	cargo test --workspace
	$(venv)/python -m pytest

.PHONY: cpython-tests
cpython-tests: python ## run CPython's own tests in a fiber under patch (CPYTHON_TESTS: modules and options)
	$(venv)/python tests/cpython/runner.py $(CPYTHON_TESTS)

.PHONY: test-all
test-all: setup ## run the Python tests on every interpreter found on this machine
	scripts/test-all

# Its packages are in a folder of their own: other tests must not find them.
.PHONY: drivers
drivers: setup python ## run the tests with real drivers: requests, httpx, redis, SQLAlchemy... and servers that are found
	$(venv)/python tests/drivers/install.py .build/drivers
	PYTHONPATH=$(CURDIR)/.build/drivers $(venv)/python -m pytest $(DRIVERS_OPTIONS) tests/drivers

.PHONY: lint
lint: setup ## check format, lints, documentation and types, as CI does
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	$(venv)/ruff check
	$(venv)/ruff format --check
	$(venv)/mypy
	$(venv)/shellcheck --external-sources --check-sourced scripts/setup scripts/build-python scripts/test-all .ci/run

# A target folder of its own: other RUSTFLAGS in the same one would rebuild everything at each change.
.PHONY: loom
loom: export LOOM_MAX_PREEMPTIONS ?= 3
loom: toolchain ## check the protocols' interleavings with loom (LOOM_MAX_PREEMPTIONS)
	export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(target_dir)/loom; \
		$(call run_some,cargo test -p roving-runtime --profile loom --lib loom_ --)

# Leaks are not looked for: the stacks of abandoned fibers are leaked on purpose, with all that is on them.
# --target keeps the sanitizer out of build scripts and procedural macros, which could not be loaded with it.
.PHONY: asan
asan: toolchain ## run the runtime's tests under AddressSanitizer
	ASAN_OPTIONS=detect_leaks=0 RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=$(target_dir)/asan \
		cargo test -p roving-runtime --features asan --target $(host) --lib --tests

# Coverage as cargo-fuzz has it built, without cargo-fuzz; a target folder of its own, as for loom. What is found lies in
# http/fuzz/artifacts: mend it, and keep it in http/tests/strict/found.rs.
.PHONY: fuzz
fuzz: export FUZZ_SECONDS ?= 300
fuzz: toolchain ## fuzz the checker of HTTP/1 requests, against hyper (FUZZ_SECONDS)
	export CARGO_TARGET_DIR=$(target_dir)/fuzz; cd http/fuzz; \
		cargo run --release --quiet --bin seeds corpus/seeds; \
		RUSTC_BOOTSTRAP=1 RUSTFLAGS="$(fuzz_flags)" cargo build --release --target $(host) --bin requests; \
		mkdir -p corpus/requests artifacts; \
		"$$CARGO_TARGET_DIR"/$(host)/release/requests -max_total_time=$$FUZZ_SECONDS -dict=http.dict -max_len=4096 -timeout=10 \
			-artifact_prefix=artifacts/ corpus/requests corpus/seeds
fuzz_flags := --cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares

.PHONY: stress
stress: export ROVING_STRESS_SECONDS ?= 120
stress: python ## 10,000 connections, 8,000 with TLS, the seeded stress test, Python's torture, the server under load, kills of jobs and their store (ROVING_STRESS_SECONDS, ROVING_SEED)
	ROVING_TLS_CONNECTIONS=8000 $(venv)/python -m pytest -q tests/python/test_patch_ssl_load.py
	$(call run_some,cargo test --release -p roving-runtime --test ten_thousand -- --ignored --nocapture)
	$(call run_some,cargo test --release -p roving-runtime --test stress -- --ignored --nocapture)
	$(venv)/python -m pytest -s tests/python/test_stress.py
	ROVING_TASKS_KILL_SECONDS=$$ROVING_STRESS_SECONDS $(venv)/python -m pytest -q -s tests/python/test_tasks_kill.py
	ROVING_IDLE_CONNECTIONS=8000 ROVING_BIG_BYTES=10000000000 ROVING_STORM_SECONDS=$$ROVING_STRESS_SECONDS \
		$(venv)/python -m pytest -q -o faulthandler_timeout=1200 tests/python/test_serve_soak.py
	export ROVING_CORPUS_CUTS=100000; $(call run_some,cargo test --release -p roving-http --test strict sockets --)
	export ROVING_STORE_KILL_SECONDS=$$ROVING_STRESS_SECONDS ROVING_STORE_CUTS=100 ROVING_STORE_MODEL_RUNS=100; \
		$(call run_some,cargo test --release -p roving-store --test kill --test power --test model -- --nocapture)

.PHONY: bench
bench: setup ## measure beside the peers, in Rust and in Python
	benches/run
	benches/run-python

.PHONY: clean
clean: ## remove what was built here; interpreters in the cache stay
	rm -rf target .venv .build .pytest_cache .mypy_cache .ruff_cache
