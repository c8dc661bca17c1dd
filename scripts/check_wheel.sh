#!/usr/bin/env bash
# The wheels as a user gets them: built from the sdist, installed in an environment of their own, tried there.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
UV=$(command -v uv || echo "$PWD/$VENV/bin/uv")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

"$UV" build -q --sdist --python "$VENV/bin/python" --out-dir "$WORK/sdist"
"$UV" build -q --wheel --python "$VENV/bin/python" --out-dir "$WORK/wheels" "$WORK"/sdist/logitscope-*.tar.gz
"$UV" build -q --wheel --python "$VENV/bin/python" --out-dir "$WORK/wheels" app
ls -l "$WORK/wheels"
for wheel in "$WORK"/wheels/logitscope-*.whl; do
    [ "$(stat -c %s "$wheel" 2>/dev/null || stat -f %z "$wheel")" -lt 10000000 ] || { echo "wheel: $wheel is over 10 MB" >&2; exit 1; }
done

"$UV" venv -q --python "$VENV/bin/python" "$WORK/clean"
"$UV" pip install -q --python "$WORK/clean/bin/python" "$WORK"/wheels/logitscope-*.whl
cd "$WORK"
"$WORK/clean/bin/python" - <<'PYTHON_END'
import sys

import numpy as np

import logitscope

x = np.random.default_rng(0).standard_normal((2, 3, 17, 8), dtype=np.float32)
weights = logitscope.softmax(x)
assert np.allclose(weights.sum(-1), 1)
result = logitscope.attention(x, x, x, is_causal=True, stats=("entropy",))
assert result.out.shape == x.shape and np.isfinite(result.entropy).all()
loss = logitscope.loss.cross_entropy(x.reshape(-1, 8), np.zeros(102, np.int64))
assert np.isfinite(loss)
with logitscope.record.start("smoke", path="smoke.scope") as scope:
    scope.scalar("loss/train", float(loss), 0)
assert logitscope.record.RunReader("smoke.scope").scalars("loss/train").values.tolist() == [float(loss)]
assert not {"torch", "PySide6"} & set(sys.modules)
print("wheel: imports, computes and records without torch and Qt,", logitscope.last_kernel())
PYTHON_END
"$WORK/clean/bin/logitscope" info
"$UV" pip install -q --python "$WORK/clean/bin/python" "$WORK"/wheels/logitscope_app-*.whl
"$WORK/clean/bin/logitscope" dashboard smoke.scope --screenshot smoke.png
[ -s smoke.png ] && echo "wheel: the dashboard draws the run"
