# logitscope: `make demo` and `make test` do all their own set-up; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(HOME)/.cargo/bin:$(PATH)

SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml app/pyproject.toml
STAMP := $(VENV)/.ready
# A process a core; a file's tests stay together, as they share what they build.
PYTEST := QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest --numprocesses auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo setup build fmt lint test test-isa wheel docs check app bench fuzz clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

demo: setup ## Train a small transformer on real text and watch it live
	$(BIN)/logitscope demo $(ARGS)

setup: $(STAMP) ## Install what is missing, make .venv, build (cheap to repeat)

$(STAMP): scripts/setup.sh $(SOURCES)
	PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/setup.sh
	@touch $@

build: setup ## The same as setup: the environment with the kernels built

app: setup ## Open the dashboard on the runs in ./runs
	$(BIN)/logitscope dashboard $(ARGS)

fmt: setup ## Format Rust and Python
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff check --fix -q python app tests benches scripts
	$(BIN)/ruff format python app tests benches scripts

lint: setup ## Formatting, clippy, ruff, mypy, stubs
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy -q --workspace --all-targets -- -D warnings
	cargo clippy -q -p logitscope-gpu --features cooperative-matrix --all-targets -- -D warnings
	$(BIN)/ruff check python app tests benches scripts
	$(BIN)/ruff format --check python app tests benches scripts
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest logitscope._native --allowlist tests/stubtest-allowlist.txt

test: setup ## Every test: Rust, Python, torch, recorder, dashboard, command line
	cargo test -q --workspace --exclude logitscope-py
	cargo test -q -p logitscope-gpu --features cooperative-matrix
	$(PYTEST) $(ARGS)
	$(PYTEST) -q benches

test-isa: setup ## The operations' tests once more with scalar kernels only
	LOGITSCOPE_ISA=scalar $(PYTEST) -q tests/ops tests/nn

wheel: setup ## Build sdist, wheel from the sdist, install it elsewhere, try it
	VENV="$(VENV)" scripts/check_wheel.sh

docs: setup ## Renew pictures and verdicts: a demo, all experiments, all views (minutes; goes on where it was stopped)
	VENV="$(VENV)" scripts/docs.sh

fuzz: ## Fuzz the kernels on rows for a minute (needs a nightly compiler)
	scripts/fuzz.sh

bench: setup ## Measure all suites beside torch, JAX and SciPy (on an idle machine)
	"$$(command -v uv || echo $(BIN)/uv)" pip install -q --python $(BIN)/python --group bench
	for suite in softmax loss linear attention accuracy; do $(BIN)/logitscope bench $$suite --save || exit 1; done
	$(BIN)/python benches/python/recorder.py

check: test lint test-isa wheel ## What CI runs
	scripts/fuzz.sh --if-possible

clean: ## Remove what was built (not the runs)
	rm -rf target dist $(VENV)
