import sys
import types
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import balanced_accuracy_score, f1_score

from robustbench_ft import tallies
from robustbench_ft.pairs import paired_variances
from robustbench_ft.statistics import paired_variance
from robustbench_ft.tallies import DRAWS, Tallies, as_images, interval, measure, tally

LABELS = np.array([0, 0, 0, 1, 1, 3, 3, 3])
ANSWERS = np.array([0, 0, 1, 1, 2, 3, 2, 0], np.uint16)
REGION = {"region": np.array([0, 0, 2, 2, 2, -1, -1, 0])}


def drawn(seed: int, n: int = 3000, classes: int = 7, right: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, classes - 1, n)  # the last class never occurs
    return np.where(generator.random(n) < right, labels, generator.integers(0, classes, n)).astype(np.uint16), labels


def test_macro_f1_by_hand_leaves_out_what_is_only_predicted() -> None:
    found = tally("macro-f1", ANSWERS, LABELS, {}, 5)
    assert (found.right, found.of, found.called) == ((2, 1, 0, 1, 0), (3, 2, 0, 3, 0), (3, 2, 2, 1, 0))
    # class 0: 2*2/(3+3), class 1: 2*1/(2+2), class 3: 2*1/(3+1); class 2 is predicted twice and never right: no term
    assert found.accuracy == pytest.approx((4 / 6 + 2 / 4 + 2 / 4) / 3)
    assert found.accuracy != pytest.approx(f1_score(LABELS, ANSWERS, average="macro", zero_division=0))


def test_mean_per_class_by_hand() -> None:
    assert tally("mean-per-class", ANSWERS, LABELS, {}, 5).accuracy == pytest.approx((2 / 3 + 1 / 2 + 1 / 3) / 3)


def test_worst_region_by_hand_leaves_out_images_of_no_region() -> None:
    found = tally("worst-region", ANSWERS, LABELS, REGION, 5)
    assert (found.right, found.of) == ((2, 0, 1), (3, 0, 3)), "region 1 has no image and is no worst region"
    assert found.accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_learn(seed: int) -> None:
    answers, labels = drawn(seed)
    f1 = f1_score(labels, answers, labels=np.unique(labels), average="macro")
    assert tally("macro-f1", answers, labels, {}, 7).accuracy == pytest.approx(f1, abs=1e-12)
    seen = answers < 6  # scikit-learn warns of answers that are no label: they are wrong either way
    recall = balanced_accuracy_score(labels, np.where(seen, answers, (labels + 1) % 6))
    assert tally("mean-per-class", answers, labels, {}, 7).accuracy == pytest.approx(recall, abs=1e-12)


def test_against_wilds(monkeypatch: pytest.MonkeyPatch) -> None:
    """WILDS' own metric objects: macro-F1 over the labels present, and the worst of the groups that have examples."""
    monkeypatch.setenv("OUTDATED_IGNORE", "1")
    monkeypatch.setitem(sys.modules, "torch_scatter", types.SimpleNamespace(scatter=scatter))  # it needs it and does not say so
    import torch
    from wilds.common.metrics.all_metrics import F1, Accuracy

    answers, labels = drawn(5)
    given = torch.tensor(answers.astype(np.int64)), torch.tensor(labels)
    found = tally("macro-f1", answers, labels, {}, 7).accuracy
    assert found == pytest.approx(F1(average="macro").compute(*given, return_dict=False).item(), abs=1e-6)
    region = np.random.default_rng(6).integers(0, 4, len(labels))
    _, _, worst = Accuracy().compute_group_wise(*given, torch.tensor(region), 6, return_dict=False)
    found = tally("worst-region", answers, labels, {"region": region}, 7).accuracy
    assert found == pytest.approx(worst.item(), abs=1e-6)


def scatter(src: Any, index: Any, dim_size: int, reduce: str) -> Any:
    """The part of torch_scatter that WILDS uses: means of groups."""
    import torch

    assert reduce == "mean"
    sums = torch.zeros(dim_size, dtype=src.dtype).index_add(0, index, src)
    return sums / torch.bincount(index, minlength=dim_size).clamp(min=1)


@pytest.mark.parametrize("metric", ["macro-f1", "mean-per-class", "worst-region"])
def test_the_bootstrap_has_the_value_and_the_spread_of_an_explicit_one(metric: tallies.TallyMetric) -> None:
    answers, labels = drawn(1, 600)
    columns = {"region": np.arange(600) % 3, "unit": np.arange(600) // 10}
    images = as_images(metric, answers, labels, columns, 7, name="set")
    value = tally(metric, answers, labels, columns, 7).accuracy
    assert images.shape == (DRAWS,) and images.mean() == pytest.approx(value, abs=1e-12)
    generator, values = np.random.default_rng(9), []
    for _ in range(800):  # whole units, drawn with replacement, the slow way
        chosen = np.concatenate([np.arange(10) + 10 * unit for unit in generator.integers(0, 60, 60)])
        one = {name: values_[chosen] for name, values_ in columns.items()}
        values.append(tally(metric, answers[chosen], labels[chosen], one, 7).accuracy)
    assert images.std() / DRAWS**0.5 == pytest.approx(np.std(values), rel=0.12)


def test_units_matter() -> None:
    """Images of one camera that stand and fall together say less than as many independent ones."""
    labels = np.tile([0, 1], 500)
    answers = np.where(np.arange(1000) // 100 % 2, labels, 1 - labels).astype(np.uint16)
    alone = as_images("macro-f1", answers, labels, {}, 2, name="set")
    by_camera = as_images("macro-f1", answers, labels, {"unit": np.arange(1000) // 100}, 2, name="set")
    assert by_camera.std() > 5 * alone.std()


def test_rows_draw_the_same_units_so_that_differences_are_paired() -> None:
    answers, labels = drawn(1)
    other = answers.copy()
    other[:30] = labels[:30]
    a, b = (as_images("mean-per-class", one, labels, {}, 7, name="set") for one in (answers, other))
    paired = paired_variance({"s": a}, {"s": b}, {"s": 1.0})
    assert paired < 0.05 * (a.var() + b.var()) / DRAWS
    found = paired_variances([[{"s": a}], [{"s": b}, {"s": a}]], {"s": 0.5})
    assert found[0, 1] == pytest.approx(paired_variance({"s": a}, {"s": (a + b) / 2}, {"s": 0.5}))
    assert found[0, 0] == pytest.approx(0, abs=1e-15)


def test_the_interval_holds_the_value() -> None:
    answers, labels = drawn(2, 500)
    images = as_images("macro-f1", answers, labels, {}, 7, name="set")
    found = interval(float(images.mean()), images)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * images.std() / DRAWS**0.5, rel=0.15)


def test_measure_of_samples_without_an_example_is_not_a_number() -> None:
    assert np.isnan(measure("worst-region", np.zeros((3, 2))))
    assert np.isnan(measure("macro-f1", np.zeros((3, 2))))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"right": (1,), "of": (1, 2)}, "one count per class each"),
        ({"right": (3, 0), "of": (2, 2)}, "all of its examples right"),
        ({"right": (0, 0), "of": (0, 0)}, "there is an example"),
        ({"metric": "macro-f1", "right": (2, 0), "of": (2, 2)}, "one count per class each"),
        ({"metric": "macro-f1", "right": (2, 0), "of": (2, 2), "called": (1, 3)}, "more right answers than answers"),
        ({"metric": "macro-f1", "right": (2, 0), "of": (2, 2), "called": (4, 3)}, "more right answers than answers"),
    ],
)
def test_counts_that_cannot_be_are_refused(values: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Tallies.model_validate({"metric": "mean-per-class"} | values)
