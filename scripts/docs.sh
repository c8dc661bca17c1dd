#!/usr/bin/env bash
# Renews the pictures and the verdicts of the documents, from runs made here. Started again after it was stopped it goes
# on where it was; when all is done the next start renews all.
set -euo pipefail
cd "$(dirname "$0")/.."
LOGITSCOPE=${VENV:-.venv}/bin/logitscope
WORK=target/docs
mkdir -p "$WORK"
read -ra SLUGS <<<"$("$LOGITSCOPE" list --built 2>/dev/null | cut -d ' ' -f 1 | tr '\n' ' ')"
PARTS=$((${#SLUGS[@]} + 2))
AT=0

part() { # part NAME: does what the function of that name does, or says that it is done
    AT=$((AT + 1))
    if [ -e "$WORK/$1.done" ]; then
        printf '[%d/%d] %s: done before\n' "$AT" "$PARTS" "$1"
        return
    fi
    printf '[%d/%d] %s\n' "$AT" "$PARTS" "$1"
    "${2:-$1}" "$1"
    touch "$WORK/$1.done"
}

demo() {
    rm -f "$WORK"/demo.scope*
    "$LOGITSCOPE" demo --no-window --run "$WORK/demo.scope"
}

experiment() {
    rm -f "$WORK/$1".scope*
    "$LOGITSCOPE" run "$1" --run "$WORK/$1.scope" --verdicts docs/verdicts.md
    "$LOGITSCOPE" dashboard "$WORK/$1.scope" --theme light --size 1400x1500 --screenshot "docs/papers/$1.png"
}

pictures() {
    "${VENV:-.venv}/bin/python" scripts/pictures.py "$WORK" docs/images
}

part demo
for slug in "${SLUGS[@]}"; do
    part "$slug" experiment
done
part pictures
rm "$WORK"/*.done
