import csv
import json
import math
import struct
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

from robustbench_ft import pretraining, start_models
from robustbench_ft.baselines import BASELINES
from robustbench_ft.pretraining import SETS, Entry, by_data_set, entries, load, logit, trend
from robustbench_ft.tables import to_csv

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / "shared/data/published.csv"
SHIFTS = ("imagenet-v2", "imagenet-r", "imagenet-sketch")
NAMES = {
    "ImageNet": "imagenet-val",
    "ImageNet-V2": "imagenet-v2",
    "ImageNet-R": "imagenet-r",
    "ImageNet-Sketch": "imagenet-sketch",
    "ImageNet-A": "imagenet-a",
    "ObjectNet": "objectnet-own-names",
}
MODELS = {"ViT-B/32": "ViT-B-32", "ViT-B/16": "ViT-B-16", "ViT-L/14": "ViT-L-14", "ViT-L/14@336px": "ViT-L-14-336"}


def entry(model: str, pretrained: str) -> Entry:
    return next(e for e in entries() if (e.model.model, e.model.pretrained) == (model, pretrained))


def coefficients(shift: str) -> tuple[float, float]:
    """Slope and intercept on logit axes, from the pool's file and with numpy's fit."""
    pool = json.loads((BASELINES / "imagenet-testbed@1.json").read_text())["models"]
    sets = [m["counts"] for m in pool if shift in m["counts"]]
    x, y = ([logit(s[name]["k"] / s[name]["n"]) for s in sets] for name in ("imagenet-val", shift))
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)


def test_the_table_is_well_formed() -> None:
    models = load()
    assert len(models) == 106
    assert len({(m.model, m.pretrained) for m in models}) == len({tuple(m.accuracies.values()) for m in models}) == 106
    assert {m.data_set for m in models} == set(SETS)
    assert {m.data_set for m in models if m.pool_millions is None} == {"WebLI"}
    for model in models:
        assert set(model.accuracies) == set(NAMES.values())
        assert all(0 < value < 1 and value.as_tuple().exponent == -4 for value in model.accuracies.values())
        assert (model.samples_billions is None) == (model.samples_source is None)
        assert model.source.startswith("mlfoundations/open_clip@f862f86 ")
        assert 100 < model.params_millions < 5100


def test_samples_are_the_ones_in_the_tag() -> None:
    tagged = [m for m in load() if m.samples_source == "tag"]
    assert len(tagged) > 30
    for model in tagged:
        assert f"_s{model.samples_billions:g}b" in model.pretrained


def test_rows_known_by_heart() -> None:
    soup = entry("convnext_xxlarge", "laion2b_s34b_b82k_augreg_soup").model
    assert (soup.data, soup.pool_millions, soup.samples_billions) == ("LAION-2B", 2300, 34)
    assert soup.accuracies["imagenet-val"] == Decimal("0.7947")
    unfiltered = entry("ViT-L-14", "commonpool_xl_s13b_b90k").model
    assert (unfiltered.data, unfiltered.pool_millions) == ("CommonPool-XL (no filter)", 12800)
    assert (unfiltered.samples_billions, unfiltered.samples_source) == (12.8, "open_clip docs/datacomp_models.md")


def test_openai_weights_agree_with_the_published_figures() -> None:
    if not PUBLISHED.exists():
        pytest.skip(f"no {PUBLISHED}")
    with open(PUBLISHED, newline="") as file:
        wanted = [row for row in csv.DictReader(file) if row["source"].startswith("mlfoundations/open_clip@89fb801")]
    wanted = [row for row in wanted if row["dataset"] in NAMES]
    assert len(wanted) == 24
    for row in wanted:
        printed = entry(MODELS[row["model"]], "openai").model.accuracies[NAMES[row["dataset"]]]
        assert 100 * printed == Decimal(row["value"])


def test_rho_is_the_distance_to_a_line_fitted_by_hand() -> None:
    found = entry("ViT-L-14", "openai")
    assert found.rho.over == SHIFTS
    figures = {name: float(value) for name, value in found.model.accuracies.items()}
    rhos, distances = [], []
    for shift in SHIFTS:
        slope, intercept = coefficients(shift)
        predicted = intercept + slope * logit(0.7554)
        rhos.append(figures[shift] - 1 / (1 + math.exp(-predicted)))
        distances.append(logit(figures[shift]) - predicted)
        assert found.row.effective[shift].value == pytest.approx(rhos[-1], abs=1e-9)
        assert found.row.effective[shift].axis == "full"
    assert found.rho.value == pytest.approx(sum(rhos) / 3, abs=1e-9)
    assert found.distance == pytest.approx(sum(distances) / 3, abs=1e-9)
    assert not found.rho.extrapolated and entry("RN50", "yfcc15m").rho.extrapolated


def test_trend_is_the_regression_of_scipy() -> None:
    items = by_data_set()["LAION-2B"]
    found = trend(items)
    assert found and found.n == 20 and found.inside
    x = np.array([logit(e.id) for e in items]) - logit(0.75)
    fit = linregress(x, [e.rho.value for e in items])
    t = student.ppf(0.975, 18)
    step = logit(0.8) - logit(0.7)
    assert found.value == pytest.approx((fit.intercept, *(fit.intercept + s * t * fit.intercept_stderr for s in (-1, 1))))
    assert found.rise == pytest.approx((step * fit.slope, *(step * (fit.slope + s * t * fit.stderr) for s in (-1, 1))))
    assert found.at(0.65) == pytest.approx(fit.intercept + fit.slope * (logit(0.65) - logit(0.75)))


def test_trends_need_four_weights_on_the_line() -> None:
    items = by_data_set()["LAION-2B"]
    assert trend(items[:4]) and not trend(items[:3])
    assert not trend(by_data_set()["YFCC-15M"])
    outside = trend(by_data_set()["LAION-400M"])
    assert outside and not outside.inside


def test_section_shows_every_row_and_says_what_is_extrapolated() -> None:
    text = start_models.section("docs/start-models")
    assert "](docs/start-models.svg)" in text and "nan" not in text
    assert all(f"| {m.model} `{m.pretrained}`" in text for m in load())
    assert all(f"\n| {name} " in text for name in SETS)
    lines = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line}
    small = lines["ViT-B-32 `commonpool_s_s13m_b4k`"]
    assert small[1:5] == ["CommonPool-S (no filter)", "12.8", "0.0128", "151"] and small[5].startswith("2.7 ±")
    assert small[7].startswith("*+1.4") and small[8] == "-" and small[-2] == "(*+1.4*)"
    assert lines["RN50 `cc12m`"][3] == "-"
    assert lines["ViT-H-14-quickgelu `metaclip_fullcc`"][-2] == "+60.9"


def test_section_compares_at_one_architecture() -> None:
    text = start_models.section("p")
    start = text.index("One architecture at a time")
    lines = [line for line in text[start : text.index("Among the 9 ViT-L-14")].splitlines() if line.startswith("|")]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]}
    assert len(cells) == 9
    assert cells["LAION-400M"][0] == "62.9"  # the weights with OpenAI's activation, as WIT-400M's
    assert cells["DFN-2B"][:2] == ["-", "-"] and cells["DFN-2B"][4] == "81.4"
    assert "LAION-2B" not in cells
    assert "from 72.3 with CommonPool-XL (no filter) to 81.4 with DFN-2B" in text


def test_rows_go_to_json_and_csv() -> None:
    found = start_models.rows()
    json.dumps(found, allow_nan=False)
    assert len(found) == 106 and found[0]["data"] == "YFCC-15M"
    by_name = {(row["model"], row["pretrained"]): row for row in csv.DictReader(to_csv(found).splitlines())}
    row = by_name["ViT-B-32 openai", "openai"]
    assert row["scores.imagenet-r.value"] == "0.6933" and row["samples_billions"] == "12.8"
    assert float(row["effective_robustness_mean.value"]) == pytest.approx(entry("ViT-B-32", "openai").rho.value)


def test_picture_opens_and_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "c.png"):
        start_models.picture(tmp_path / name)
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes() and b"<dc:date>" not in first
    for svg in (first, (ROOT / "docs/start-models.svg").read_bytes()):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert all(f"<!-- {name} -->".encode() in svg for name in SETS)
    for png in (tmp_path / "c.png", ROOT / "docs/start-models.png"):
        assert struct.unpack(">2I", png.read_bytes()[16:24]) == (1690, 832)
    styles = list(start_models.STYLES.values())
    assert len(set(styles)) == len(styles)


def test_nothing_here_imports_torch() -> None:
    code = "import sys, robustbench_ft.start_models as s; s.section('p'); print({'torch', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_page_about_it_has_the_numbers() -> None:
    text = (ROOT / "docs/start-models.md").read_text()
    beyond = sum(e.rho.extrapolated for e in entries())
    ends = pretraining.scored().yardstick.lines["imagenet-v2"]["full"].pieces[0].id_range
    assert f"{len(load())} sets of zero-shot weights" in text and f"{beyond} of the {len(load())} lie below" in text
    assert f"{ends[0]:.1%} to {ends[1]:.1%} ID accuracy" in text
