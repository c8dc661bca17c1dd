#!/usr/bin/env bash
# Everything that a fresh machine lacks: system libraries, a virtual environment in .venv, the build.
# Can be repeated: what is there is left alone. Needs Python >= 3.10 and Rust >= 1.89.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

say() { printf '\033[1m%s\033[0m\n' "setup: $*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 2
}

# --- what has to be there already ------------------------------------------------------------------
command -v "$PYTHON" >/dev/null || fail "no $PYTHON; install Python >= 3.10 (or name one: make PYTHON=/path/to/python3)"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$PYTHON is $("$PYTHON" -V 2>&1); logitscope needs Python >= 3.10 (name another: make PYTHON=/path/to/python3)"
[ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || fail "no cargo; install Rust >= 1.89 from https://rustup.rs"
RUST=$(rustc --version | sed -E 's/^rustc ([0-9]+\.[0-9]+).*/\1/')
[ "$(printf '%s\n1.89\n' "$RUST" | sort -V | head -n 1)" = 1.89 ] ||
    fail "rustc is $RUST; logitscope needs Rust >= 1.89 (rustup update)"

# --- system libraries (Debian, Ubuntu) -------------------------------------------------------------
# Qt, which draws the dashboard, loads these; each is named with the package that holds it.
QT_LIBRARIES="libEGL.so.1:libegl1 libGL.so.1:libgl1 libfontconfig.so.1:libfontconfig1 libglib-2.0.so.0:libglib2.0-0
    libdbus-1.so.3:libdbus-1-3 libxkbcommon.so.0:libxkbcommon0 libxkbcommon-x11.so.0:libxkbcommon-x11-0
    libX11-xcb.so.1:libx11-xcb1 libxcb-cursor.so.0:libxcb-cursor0 libxcb-icccm.so.4:libxcb-icccm4
    libxcb-image.so.0:libxcb-image0 libxcb-keysyms.so.1:libxcb-keysyms1 libxcb-randr.so.0:libxcb-randr0
    libxcb-render-util.so.0:libxcb-render-util0 libxcb-shape.so.0:libxcb-shape0 libxcb-xkb.so.1:libxcb-xkb1
    libwayland-client.so.0:libwayland-client0 libwayland-cursor.so.0:libwayland-cursor0 libwayland-egl.so.1:libwayland-egl1"

missing_packages() {
    local known pair
    known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
    for pair in $QT_LIBRARIES; do
        grep -qF "${pair%%:*} " <<<"$known" || echo "${pair##*:}"
    done
    # Without a font every text on the dashboard is blank.
    [ -n "$(command -v fc-list >/dev/null && fc-list)" ] || echo fontconfig fonts-dejavu-core
    command -v cc >/dev/null || echo gcc libc6-dev
    # The loader of GPU drivers, and a GPU in software for the tests where there is no other.
    grep -qF "libvulkan.so.1 " <<<"$known" || echo libvulkan1
    compgen -G "/usr/share/vulkan/icd.d/*.json" >/dev/null || compgen -G "/etc/vulkan/icd.d/*.json" >/dev/null ||
        echo mesa-vulkan-drivers
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

if [ "$(uname)" = Linux ]; then
    PACKAGES=$(missing_packages | tr '\n' ' ')
    if [ -n "${PACKAGES// /}" ]; then
        if command -v apt-get >/dev/null; then
            SUDO=""
            if [ "$(id -u)" != 0 ]; then
                command -v sudo >/dev/null || fail "missing system packages and no sudo; as root: apt-get install $PACKAGES"
                SUDO=sudo
            fi
            say "installing system packages with apt-get: $PACKAGES"
            $SUDO apt-get update -qq
            # shellcheck disable=SC2086 -- a list of words
            DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y -qq --no-install-recommends $PACKAGES >/dev/null
        else
            say "missing system libraries; this is no Debian or Ubuntu, so install yourself what they call: $PACKAGES"
        fi
    fi
fi

# --- virtual environment ---------------------------------------------------------------------------
if [ ! -x "$VENV/bin/python" ]; then
    say "making a virtual environment in $VENV"
    "$PYTHON" -m venv "$VENV"
fi
if command -v uv >/dev/null; then
    UV=uv
else
    [ -x "$VENV/bin/uv" ] || "$VENV/bin/python" -m pip install -q --disable-pip-version-check uv
    UV="$VENV/bin/uv"
fi

# On Linux PyPI's torch brings gigabytes of CUDA; where its own index answers, take what fits the machine.
TORCH_BACKEND=()
if [ "$(uname)" = Linux ] && "$PYTHON" - <<'PYTHON_END' 2>/dev/null; then
import urllib.request
urllib.request.urlopen("https://download.pytorch.org/whl/cpu/", timeout=5)
PYTHON_END
    TORCH_BACKEND=(--torch-backend=auto)
fi

say "installing the Python packages and building the kernels (some minutes the first time)"
"$UV" pip install -q --python "$VENV/bin/python" ${TORCH_BACKEND[@]+"${TORCH_BACKEND[@]}"} \
    --editable ".[lab]" --editable ./app --group test --group lint
say "ready: $("$VENV/bin/logitscope" --version) in $VENV"
