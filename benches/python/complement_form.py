"""What the complement form of cross entropy is worth in a training: small losses stay losses.

A network without biases is trained in float32 on sums modulo 47, with AdamW, once on the loss in its textbook form and
once in its complement form (the default of ``logitscope.loss.cross_entropy``). What both are worth is told by the same
judge, the loss of the same logits in float64. The textbook form rounds the loss of a fitted pair to 0 and its gradient
with it, so training stalls and is thrown back; the complement form goes on. Three seeds take some two minutes:

    python benches/python/complement_form.py

The claim: after 3000 steps the complement form is below 1e-9, and 100 times below the textbook form, with every seed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from logitscope.experiments.grokking_stability import modular_addition
from logitscope.nn import CrossEntropyLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

P, FRACTION, WIDTH = 47, 0.5, 128
FORMS = {"textbook": False, "complement": True}
BELOW, TIMES = 1e-9, 100.0


def network(seed: int) -> torch.nn.Sequential:
    """Two hidden layers without biases."""
    torch.manual_seed(seed)
    sizes = ((2 * P, WIDTH), (WIDTH, WIDTH), (WIDTH, P))
    layers = [layer for size in sizes for layer in (torch.nn.Linear(*size, bias=False), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers[:-1])


def train(*, complement: bool, seed: int, looks: Sequence[int]) -> list[float]:
    """Losses in float64 of the logits at some steps, the last of which ends the training."""
    x, y, _, _ = modular_addition(P, FRACTION, seed)
    model, loss_of, judge = network(seed), CrossEntropyLoss(complement=complement), CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-25, weight_decay=0.0)
    found = []
    for step in range(1, looks[-1] + 1):
        logits = model(x)
        if step in looks:
            found.append(judge(logits.detach().double(), y).item())
        optimizer.zero_grad()
        loss_of(logits, y).backward()
        optimizer.step()
    return found


def is_shown(textbook: float, complement: float) -> bool:
    """Whether the last losses are what is claimed."""
    return complement < BELOW and complement * TIMES <= textbook


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--steps", type=int, default=3000, help="of a training; at least 10")
    arguments = parser.parse_args()
    looks = [arguments.steps * part // 5 for part in range(1, 6)]
    table = Table(
        "seed", "form of the loss", *(f"at step {step}" for step in looks), title="Exact loss of the training"
    )
    jobs = [(seed, form) for seed in range(arguments.seeds) for form in FORMS]
    losses = {
        (seed, form): train(complement=FORMS[form], seed=seed, looks=looks)
        for seed, form in track(jobs, "training", console=Console(stderr=True))
    }
    for (seed, form), found in losses.items():
        table.add_row(str(seed), form, *(f"{loss:.1e}" for loss in found))
    console = Console()
    console.print(table)
    shown = [is_shown(*(losses[seed, form][-1] for form in FORMS)) for seed in range(arguments.seeds)]
    console.print(
        f"Complement form below {BELOW:g} and {TIMES:g} times below the textbook form: "
        f"{sum(shown)} of {len(shown)} seeds, {'reproduced' if all(shown) else 'not reproduced'}"
    )


if __name__ == "__main__":
    main()
