#!/usr/bin/env bash
# A minute (or FUZZ_SECONDS) of fuzzing. With --if-possible a machine without a nightly compiler is no error; it is said.
# FUZZ_SEED, 0 for a new one each time, fixes where it begins, so that a run in CI can be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

cannot() {
    if [ "${1:-}" = --if-possible ]; then
        printf '\033[1mfuzz: SKIPPED, nothing was fuzzed: %s\033[0m\n' "$2" >&2
        exit 0
    fi
    printf 'fuzz: %s\n' "$2" >&2
    exit 2
}

MODE=${1:-}
# The readers of run files: with atheris by coverage, without it at random.
VENV=${VENV:-.venv}
if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import logitscope' 2>/dev/null; then
    "$VENV/bin/python" -c 'import atheris' 2>/dev/null || "$VENV/bin/python" -m pip install -q atheris 2>/dev/null || true
    "$VENV/bin/python" fuzz/readers.py --seconds "${FUZZ_READER_SECONDS:-20}" --seed "${FUZZ_SEED:-0}"
fi

cargo +nightly --version >/dev/null 2>&1 || cannot "$MODE" "needs a nightly compiler (rustup toolchain install nightly)"
command -v c++ >/dev/null || cannot "$MODE" "needs a C++ compiler for libFuzzer (such as the package g++)"
command -v cargo-fuzz >/dev/null || cargo install -q cargo-fuzz --locked ||
    cannot "$MODE" "needs cargo-fuzz, which could not be installed (cargo install cargo-fuzz)"

cargo +nightly fuzz run rows -- -max_total_time="${FUZZ_SECONDS:-60}" -seed="${FUZZ_SEED:-0}" -max_len=2000 -timeout=20 -verbosity=0 -print_final_stats=1
echo "fuzz: no fault found"
