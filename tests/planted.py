"""Method files that break the contract, each in one way, and one that keeps it: text to be written to a file.

``{name}`` are what the test fills in: paths of a suite file and of a store.
"""

HEAD = """
import copy
from pathlib import Path
from typing import ClassVar
import numpy as np
import torch
from robustbench_ft import datasets, store, suites
from robustbench_ft.losses import contrastive, cross_entropy
from robustbench_ft.method import AnyMethod, Fraction, Method, PathPoint, Task, method
from robustbench_ft.mini import world
from robustbench_ft.model import Classifier
from robustbench_ft.train import Recipe, train
from robustbench_ft.weights import interpolate

SUITE, STORE = {suite!r}, Path({store!r})
QUICK = Recipe(lr=1e-3, epochs=1, batch_size=40, warmup_steps=0)
CALLS = []


def tune(start, task, recipe=QUICK, only=("clip.visual", "head")):
    return train(start.frozen_head(), task.training(start, recipe), recipe, loss=cross_entropy(), only=only)


def open_set(spec):
    return datasets.open_set(suites.load(SUITE), spec(suites.load(SUITE)), None, STORE)


"""

METHOD = """
class Planted(Method):
    def adapt(self, start: Classifier, task: Task) -> Classifier:
"""

SOUND = METHOD + "        return tune(start, task)\n"

BLENDED = """
class Planted(Method):
    alpha: Fraction = 0.5
    base: AnyMethod = method("ft", recipe={{"lr": 1e-3, "epochs": 1, "batch_size": 40, "warmup_steps": 0}})

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        return interpolate({ends}, self.alpha)

    def path(self, start, task):
        tuned = self.base.fit(start, task)
        for alpha in (0.5, 1.0):
            yield PathPoint(f"alpha={{alpha:g}}", lambda alpha=alpha: interpolate({path_ends}, alpha), alpha)
"""
STRAIGHT = {"ends": "start, self.base.fit(start, task)", "path_ends": "start, tuned"}

# Per fault: the body of adapt, and what the failed check says.
BROKEN = {
    "mutates_its_input": (
        "        fitted = tune(start, task)\n"
        "        with torch.no_grad():\n"
        "            start.clip.visual.trunk.stem[0].bias.add_(1e-6)\n"
        "        return fitted\n",
        "changed its input",
    ),
    "leaves_its_input_training": (
        "        start.train()\n        return tune(start, task).eval()\n",
        "changed its input",
    ),
    "closes_parameters_of_its_input": (
        "        start.clip.transformer.requires_grad_(False)\n        return tune(start, task)\n",
        "changed its input",
    ),
    "ignores_only": (
        "        start = start.frozen_head()\n"
        "        loss = lambda model, batch: cross_entropy()(model, batch) + 1e-3 * contrastive(model, batch)\n"
        "        from robustbench_ft.batches import Captioned\n"
        "        data = Captioned(task.training(start, QUICK), task.classes, task.templates, start.tokenise)\n"
        "        return train(start, data, QUICK, loss=loss)\n",
        "moved .* which should stay still",
    ),
    "moves_the_text_tower_by_hand": (
        "        fitted = tune(start, task)\n        fitted.clip.logit_scale.data.add_(1e-6)\n        return fitted\n",
        "moved .*logit_scale.* which should stay still",
    ),
    "depends_on_earlier_calls": (
        "        CALLS.append(0)\n        return tune(start, task, QUICK.model_copy(update=dict(lr=1e-3 / len(CALLS))))\n",
        "other weights from the same seed",
    ),
    "draws_without_a_seed": (
        "        fitted = tune(start, task)\n"
        "        noise = np.random.default_rng().normal(size=fitted.head.bias.shape)\n"
        "        fitted.head.bias.data.add_(1e-3 * torch.from_numpy(noise).float())\n"
        "        return fitted\n",
        "other weights from the same seed",
    ),
    "seeds_itself": (
        "        torch.manual_seed(0)\n        return tune(start, task)\n",
        "deterministic is False",
    ),
    "trains_uphill": (
        "        loss = lambda model, batch: -cross_entropy()(model, batch)\n"
        "        data = task.training(start, QUICK)\n"
        "        return train(start.frozen_head(), data, QUICK, loss=loss, only=('clip.visual', 'head'))\n",
        "the loss on train went from",
    ),
}

# Per leak: the body of adapt; each raises LeakError.
LEAKS = {
    "opens_the_test_set": "        open_set(lambda suite: suite.test)\n        return tune(start, task)\n",
    "opens_ood_data": "        open_set(lambda suite: suite.shifts[0])\n        return tune(start, task)\n",
    "opens_ood_data_by_its_reader": (
        "        from robustbench_ft.datasets import mini\n"
        "        suite = suites.load(SUITE)\n"
        "        mini.read(suite.shifts[0], None, STORE)\n"
        "        return tune(start, task)\n"
    ),
    "renders_mini_itself": "        world.render(900, 'sketch', range(20))\n        return tune(start, task)\n",
    "asks_the_store_for_answers": "        store._store.get().predictions('0' * 64)\n        return start\n",
    "reads_cached_pixels": ("        np.load({pixels!r}, mmap_mode='r')\n        return tune(start, task)\n"),
    "reads_cached_answers": "        Path({answers!r}).read_bytes()\n        return tune(start, task)\n",
    "looks_for_cached_answers": "        list((STORE / 'predictions').iterdir())\n        return tune(start, task)\n",
    "opens_test_data_in_a_loss": (
        "        def loss(model, batch):\n"
        "            world.render(900, 'test', range(2))\n"
        "            return cross_entropy()(model, batch)\n"
        "        return train(start.frozen_head(), task.training(start, QUICK), QUICK, loss=loss, only=('head',))\n"
    ),
}
