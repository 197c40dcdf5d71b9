from __future__ import annotations

import json
from pathlib import Path

import pytest
from fabricated import SETS, make_matched, make_panel

from robustbench_ft import baselines, catalogue, method, suites
from robustbench_ft.errors import UnknownName
from robustbench_ft.suites import Suite


def test_listings_name_everything_that_can_be_named() -> None:
    found = {what: json.loads(catalogue.listing(what, as_json=True)) for what in ("methods", "suites", "baselines")}
    assert [row["method"] for row in found["methods"]] == method.names()
    assert [row["suite"] for row in found["suites"]] == suites.panel_names()
    assert {row["suite"] for row in found["suites"] if "evaluate" in row["rbft"]} == set(suites.names())
    assert [row["baseline"] for row in found["baselines"]] == baselines.names()
    for what, rows in found.items():
        text = catalogue.listing(what, as_json=False)
        assert all(str(next(iter(row.values()))) in text for row in rows)


def test_models_are_the_built_in_one_and_open_clip_s() -> None:
    rows = json.loads(catalogue.listing("models", as_json=True))
    assert rows[0]["model"] == "mini-clip"
    assert {"model": "ViT-B-32", "pretrained": "openai"} in rows


def test_an_unknown_list_is_named() -> None:
    with pytest.raises(UnknownName, match=r"'method'. Did you mean methods\?"):
        catalogue.listing("method", as_json=False)


def test_a_method_is_shown_with_its_fields_on_a_suite(tiny: Suite) -> None:
    text = catalogue.show("WiSE-FT", suite=str(tiny.file), as_json=False)
    expected = method.configure("wiseft", recipe_table=tiny.recipes)
    assert "Weight-space ensemble" in text and "base.recipe.lr_scale" in text
    lines = {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) == 2}
    assert float(lines["base.recipe.lr"]) == expected.base.recipe.lr  # type: ignore[attr-defined]
    assert json.loads(catalogue.show("wiseft", suite=str(tiny.file), as_json=True))["config"] == expected.dump()


def test_every_shown_field_can_be_set(tiny: Suite) -> None:
    for name in method.names():
        shown = catalogue._flat(method.configure(name, recipe_table=tiny.recipes).dump())
        fields = [(path, value) for path, value in shown if path.rpartition(".")[2] != "method"]
        again = method.configure(name, recipe_table=tiny.recipes, overrides=fields)
        assert again.dump() == method.configure(name, recipe_table=tiny.recipes).dump()


def test_a_suite_is_shown_with_its_sets(tiny: Suite) -> None:
    text = catalogue.show(str(tiny.file), suite="mini", as_json=False)
    for spec in (tiny.train, tiny.val, *tiny.tests):
        assert spec.name in text and (spec.digest or "")[:12] in text
    assert tiny.protocol[:12] in text
    assert json.loads(catalogue.show(str(tiny.file), suite="mini", as_json=True))["name"] == "tiny"


@pytest.mark.parametrize("name", [name for name in suites.panel_names() if not suites.is_suite(name)])
def test_what_can_only_be_scored_is_shown_with_its_sets(name: str) -> None:
    text, panel = catalogue.show(name, suite="mini", as_json=False), suites.panel(name)
    specs = panel.sets if isinstance(panel, suites.Track) else panel.tests
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    for spec in specs:
        assert lines[spec.name][1:3] == [str(spec.n), spec.metric] or (spec.n is None and lines[spec.name][1] == spec.metric)
    assert panel.title in text and json.loads(catalogue.show(name, suite="mini", as_json=True))["name"] == name


def test_a_suite_of_a_thousand_classes_is_shown_with_a_few_and_the_data_set_of_each_set() -> None:
    text = catalogue.show("imagenet", suite="mini", as_json=False)
    assert "classes tench, goldfish, great white shark" in text and "... 1000 in all" in text and "toilet paper" not in text
    assert max(map(len, text.splitlines())) < 200
    assert any("imagenet-minival" in line and "imagenet/train, val part" in line for line in text.splitlines())
    assert any("objectnet-own-names" in line and "objectnet/test, own head" in line for line in text.splitlines())
    few = catalogue.show("imagenet:16-shot-seed-3", suite="mini", as_json=False)
    assert "imagenet-train-16-shot" in few and "16000" in few


def test_suites_are_listed_with_the_sets_that_rbft_reads() -> None:
    rows = {row["suite"]: row for row in json.loads(catalogue.listing("suites", as_json=True))}
    assert "objectnet-own-names" in rows["imagenet"]["shifts"] and "original-encoding" not in rows["imagenet"]["shifts"]
    assert max(map(len, catalogue.listing("suites", as_json=False).splitlines())) < 200


def test_a_baseline_is_shown_with_every_line() -> None:
    text = catalogue.show("imagenet-testbed@1", suite="mini", as_json=False)
    document = json.loads(catalogue.show("imagenet-testbed@1", suite="mini", as_json=True))
    baseline = baselines.load("imagenet-testbed@1")
    assert (document["models"], document["hash"]) == (85, baseline.hash) and baseline.hash in text
    named = {name for panel in map(suites.panel, ("imagenet", "video")) for name in baseline.lines(panel)}  # type: ignore[arg-type]
    assert set(document["lines"]) == named and len(named) == 12
    for name, axes in document["lines"].items():
        shown = [line.split() for line in text.splitlines() if line.startswith(f"{name} ")]
        pieces = [(axis, piece) for axis, line in axes.items() for piece in line["pieces"]]
        told = [[axis, str(piece["m"]), f"{piece['slope']:.3f}", f"{piece['intercept']:.3f}"] for axis, piece in pieces]
        assert [line[1:5] for line in shown if line[1] in ("class-matched", "full")] == told
    assert [piece["m"] for piece in document["lines"]["imagenet-a"]["full"]["pieces"]] == [33, 51]


def test_a_baseline_of_one_s_own_test_sets_is_shown(tmp_path: Path) -> None:
    baseline = make_matched(make_panel())
    baseline.save(tmp_path / "toy@1.json")
    text = catalogue.show(str(tmp_path / "toy@1.json"), suite="mini", as_json=False)
    assert "14 reference models" in text and all(f"\n{name} " in text for name in SETS[1:])
    assert [line.split()[1] for line in text.splitlines() if line.startswith("toy-a ")] == ["class-matched", "full"]
    assert set(json.loads(catalogue.show(str(tmp_path / "toy@1.json"), suite="mini", as_json=True))["lines"]) == set(SETS[1:])


def test_what_cannot_be_shown_is_named(tiny_file: Path) -> None:
    with pytest.raises(UnknownName, match="unknown method"):
        catalogue.show("wisft", suite=str(tiny_file), as_json=False)
    with pytest.raises(UnknownName, match="mini@9"):
        catalogue.show("mini@9", suite=str(tiny_file), as_json=False)


def test_doctor_says_what_this_machine_has() -> None:
    facts = json.loads(catalogue.doctor(as_json=True))
    assert {"python", "torch", "device", "threads", "store", "free in store"} <= facts.keys()
    assert facts["store"] in catalogue.doctor(as_json=False)


def test_a_name_that_a_suite_and_a_baseline_share_is_the_suite() -> None:
    assert catalogue.show("mini", suite="mini", as_json=False).startswith("Mini, world 0")
    with pytest.raises(UnknownName, match="unknown baseline 'imagenet-testbed'.*imagenet-testbed@1") as caught:
        catalogue.show("imagenet-testbed", suite="mini", as_json=False)
    assert caught.value.hint == "rbft show imagenet-testbed@1"
