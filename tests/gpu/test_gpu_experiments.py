"""Every experiment that is built runs with ``--device gpu``, and says what of it did."""

from __future__ import annotations

import pytest

from logitscope.__main__ import main
from logitscope.data.text import TextData
from logitscope.experiments import PAPERS

pytest.importorskip("torch")

SHORT = {
    "two-pass-softmax": ["powers=13,", "repeats=1"],
    "polycom": ["steps=2", "language_steps=1"],
    "z-loss": ["classes=1000,", "steps=1", "stability_steps=2"],
    "neural-tangent-kernel": ["widths=8,16", "samples=8", "steps=2"],
    "grokking-stability": ["perp=5,0.6,8,2", "precision=5,0.7,8,2", "stable=5,0.85,8,2"],
    "sigmoid-attention": ["steps=1", "windows=1", "lengths=4,8"],
    "entropy-guided-attention": ["steps=1", "windows=1"],
    "selective-attention": ["graph_steps=1", "position_steps=1", "gate_steps=1", "text_steps=1"],
}
"""Options that leave as little as there can be; of others a smoke run is done."""
BOTH = ("attention", "cross_entropy")
SENT = {
    "polycom": BOTH,
    "z-loss": ("cross_entropy",),
    "grokking-stability": ("cross_entropy",),
    "sigmoid-attention": BOTH,
    "entropy-guided-attention": BOTH,
    "selective-attention": BOTH,
}


@pytest.mark.parametrize("slug", [paper.slug for paper in PAPERS if paper.built])
def test_that_an_experiment_runs_there_and_says_what_did(slug, gpu_device, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOGITSCOPE_GPU_ADAPTER", gpu_device.info.name)
    monkeypatch.setenv("LOGITSCOPE_RUNS", str(tmp_path))
    windows = TextData.validation_windows
    monkeypatch.setattr(
        TextData, "validation_windows", lambda text, count, length: windows(text, min(count, 2), length)
    )
    short = [word for option in SHORT.get(slug, ()) for word in ("--set", option)]
    assert main(["run", slug, "--smoke", "--seed", "0", "--device", "gpu", *short]) == 0
    told = capsys.readouterr().err
    if slug in SENT:
        assert f"{slug}: calls on {gpu_device.info.name}: " in told
        assert all(f" of {operation}" in told for operation in SENT[slug])
    else:
        assert f"{slug}: none of its operations has a way to a GPU; the rest ran on the CPU" in told
