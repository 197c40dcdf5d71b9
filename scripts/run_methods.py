"""Run every method of the project on a suite with several seeds, as submissions.

    python scripts/run_methods.py --suite mini --out submissions              the project's own rows on the leaderboard
    python scripts/run_methods.py --suite worlds/1/suites/mini-1.toml --out worlds/1/submissions

Fits are shared through the store and finished runs are skipped, so the same command continues.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import torch

from robustbench_ft import records, run, score, score_tables, store, suites, yardstick
from robustbench_ft.files import default_folder, write_atomic
from robustbench_ft.method import configure, load, names
from robustbench_ft.metrics import RECORD

# Title and paper of each row.
ROWS = {
    "zeroshot": ("Zero-shot", "https://arxiv.org/abs/2103.00020"),
    "lp": ("Linear probe", "https://arxiv.org/abs/2109.01903"),
    "ft": ("Fine-tuning", "https://arxiv.org/abs/2109.01903"),
    "wiseft": ("WiSE-FT, alpha 0.5", "https://arxiv.org/abs/2109.01903"),
    "lpft": ("LP-FT", "https://arxiv.org/abs/2202.10054"),
    "l2sp": ("L2-SP", "https://arxiv.org/abs/1802.01483"),
    "flyp": ("FLYP", "https://arxiv.org/abs/2212.00638"),
    "uniform_soup": ("Uniform soup of 5", "https://arxiv.org/abs/2203.05482"),
    "greedy_soup": ("Greedy soup of 5", "https://arxiv.org/abs/2203.05482"),
    "ensemble": ("Logit ensemble of 5", "https://arxiv.org/abs/2203.05482"),
    "car_ft": ("CAR-FT", "https://arxiv.org/abs/2211.16175"),
    "distill": ("Linear probe, distilled", "https://arxiv.org/abs/2109.01903"),
    "ema": ("Fine-tuning, EMA", "https://arxiv.org/abs/2109.01903"),
    "flyp_ce": ("FLYP-CE", "https://arxiv.org/abs/2212.00638"),
    "lc_reg": ("Linear probe, held near the zero-shot head", "https://arxiv.org/abs/2109.01903"),
    "learned_soup": ("Learned soup of 5", "https://arxiv.org/abs/2203.05482"),
    "lipsum_ft": ("Lipsum-FT", "https://arxiv.org/abs/2404.00860"),
    "lora": ("LoRA", "https://arxiv.org/abs/2106.09685"),
    "model_stock": ("Model Stock of 2", "https://arxiv.org/abs/2403.19522"),
    "paint": ("PAINT, alpha chosen on ID val", "https://arxiv.org/abs/2208.05592"),
    "random_interpolation": ("Random interpolation, alpha 0.5", "https://arxiv.org/abs/2109.01903"),
    "tpgm": ("TPGM", "https://arxiv.org/abs/2303.10720"),
    "trajectory": ("Fine-tuning, with points along the way", "https://arxiv.org/abs/2109.01903"),
}


def main() -> None:
    """Run all, print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="mini")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=names())
    parser.add_argument("--store", type=Path, default=default_folder())
    given = parser.parse_args()
    torch.set_num_threads(1)
    suite = suites.load(given.suite)
    for seed in range(given.seeds):
        for name in given.methods:
            method = configure(name, recipe_table=suite.recipes)
            folder = given.out / f"{suite.name}-{name.replace('_', '-')}"
            out = folder / f"seed-{seed}"
            if not (out / RECORD).is_file():
                run.evaluate(run.Run(suite, method, suite.start, store.Store(given.store), out, seed=seed))
            write_atomic(folder / "submission.toml", about(name))
            print(f"{name} seed {seed}: {records.load(out / RECORD).headline.counts}", flush=True)
    for name in given.methods:
        folder = given.out / f"{suite.name}-{name.replace('_', '-')}"
        scores = score.score(score.load_run(folder), yardstick.of(suite))
        print(score_tables.render(scores, "table", score_tables.title(scores)), flush=True)


def about(name: str) -> str:
    """The submission's own file."""
    fields = {
        "title": ROWS[name][0],
        "authors": ["The robustbench_ft authors"],
        "paper": ROWS[name][1],
        "date": datetime.now(UTC).date().isoformat(),
        "licence": "MIT",
        "data_beyond_id": load(name).data_beyond_id,
        "notes": "The project's own run: scripts/run_methods.py",
    }
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items()) + "\n"


if __name__ == "__main__":
    main()
