"""Suites beside the panel files of their names, and beside their variants."""

from __future__ import annotations

import pytest

from robustbench_ft import suites
from robustbench_ft.files import DATA
from robustbench_ft.suites import Panel, Suite

PANELS = DATA / "panels"
BOTH = [name for name in suites.names() if (PANELS / f"{name}.toml").is_file()]


@pytest.mark.parametrize("name", BOTH)
def test_a_panel_file_holds_before_the_suite_of_its_name_and_they_agree_on_what_both_have(name: str) -> None:
    suite, panel = suites.load(name), suites.panel(name)
    assert not isinstance(panel, Suite) and isinstance(panel, Panel)
    assert (panel.test.name, panel.baseline) == (suite.test.name, suite.baseline)
    known = {spec.name: spec for spec in panel.tests}
    assert {spec.name for spec in suite.headline_shifts} == {spec.name for spec in panel.headline_shifts}
    for spec in suite.tests:
        if spec.name in known:
            other = known[spec.name]
            same = {"metric", "headline"} | (set() if spec.metric == "pm" else {"n", "subset"})
            assert {field: getattr(spec, field) for field in same} == {field: getattr(other, field) for field in same}, spec.name


def test_imagenet_is_both_a_suite_and_a_panel() -> None:
    assert "imagenet" in BOTH and suites.is_suite("imagenet") and not suites.is_suite("transfer")
    known, read = ([spec.name for spec in found.tests] for found in (suites.panel("imagenet"), suites.load("imagenet")))  # type: ignore[union-attr]
    assert [name for name in known if name != "imagenet-v2-original-encoding"] == read, "in one order"


def test_variants_have_the_id_test_set_of_their_suite_and_a_protocol_of_their_own() -> None:
    variants = [suite for suite in map(suites.load, suites.names()) if suite.variant_of]
    assert [suite.name for suite in variants] == ["imagenet-soups", *suites.track("patching").suites]
    for variant in variants:
        suite = suites.load(variant.variant_of)
        assert variant.test == suite.test and variant.protocol != suite.protocol


def test_the_soups_suite_differs_in_train_and_val_alone() -> None:
    variant, suite = suites.load("imagenet-soups"), suites.load("imagenet")
    own = {"name", "title", "variant_of", "file", "train", "val"}
    assert variant.model_dump(exclude=own) == suite.model_dump(exclude=own)
    for a, b in ((variant.train, suite.train), (variant.val, suite.val)):
        about = {"name", "mask", "mask_check", "mask_source", "val_per_class"}
        assert a.model_dump(exclude=about) == b.model_dump(exclude=about) and a.mask and not b.mask
