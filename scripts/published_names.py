"""What the words of `published.csv` stand for in the project's records: sources, sets, methods, variants, selection rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Provenance = Literal["own", "rerun", "repository", "quoted", "user"]


class Source(NamedTuple):
    """One source of figures, and the folder below `submissions/` that it becomes."""

    folder: str
    short: str
    citation: str
    provenance: Provenance
    """Of its figures, or of those of its `own` methods where it has figures of others too."""
    own: tuple[str, ...] = ()
    """Its own methods; the other rows are reruns. Empty: all."""
    counts: bool = False
    """Whether its figures are unrounded shares of the test images."""


WISEFT = Source(
    "wiseft-paper",
    "WiSE-FT",
    "Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, arXiv:2109.01903v3",
    "own",
    ("wiseft", "ft", "lp", "ensemble"),
)
SOUPS = Source(
    "model-soups-repo",
    "soups repository",
    "mlfoundations/model-soups@d5398f1: result files, wise-ft-example.py, header of learned_bylayer.py",
    "repository",
)
TESTBED = Source(
    "imagenet-testbed",
    "ImageNet testbed",
    "modestyachts/imagenet-testbed@0170eec robustness_top1s.csv (Taori et al., NeurIPS 2020)",
    "repository",
)
SOURCES = {
    "arXiv:2109.01903v3 (WiSE-FT)": WISEFT,
    "mlfoundations/model-soups@d5398f1 result files": SOUPS._replace(counts=True),
    "mlfoundations/model-soups@d5398f1 wise-ft-example.py docstring": SOUPS,
    "mlfoundations/model-soups@d5398f1 learned_bylayer.py header": SOUPS,
    "arXiv:2203.05482v3 Table tab:results via third-party TeX notes": Source(
        "model-soups-paper",
        "Model soups",
        "Wortsman et al., Model soups, ICML 2022, arXiv:2203.05482v3, main results table as given in third-party notes",
        "own",
    ),
    "VRF (Zhu et al., NeurIPS 2024)": Source(
        "vrf-paper", "VRF", "Zhu et al., Robust fine-tuning via variance reduction (VRF), NeurIPS 2024", "own", ("vrf",)
    ),
    "TRACER paper (multimodal self-distillation fine-tuning, 2026; OCR)": Source(
        "tracer-paper", "TRACER", "TRACER: multimodal self-distillation fine-tuning, 2026 (read by OCR)", "own", ("tracer",)
    ),
    "DisCL paper (iWildCam Table 4; baseline rows quoted from FLYP paper, dagger rows re-run)": Source(
        "discl-paper", "DisCL", "DisCL paper, Table 4 (iWildCam): rows quoted from the FLYP paper, and reruns", "quoted"
    ),
    "DiVE paper via third-party notes (secondary source)": Source(
        "dive-notes", "DiVE", "DiVE paper as given in third-party notes; most rows are quoted there too", "quoted"
    ),
    "ReCalCon README (GitHub)": Source("recalcon", "ReCalCon", "ReCalCon README on GitHub, results table", "quoted"),
    "PotatoTian/TPGM@8d18db0 ImageNet_ViT_Exp/README": Source(
        "tpgm", "TPGM repository", "PotatoTian/TPGM@8d18db0 ImageNet_ViT_Exp/README", "repository", ("tpgm",)
    ),
    "cs-giung/lipsum-ft@1331873 README logs": Source(
        "lipsum-ft", "Lipsum-FT repository", "cs-giung/lipsum-ft@1331873 README, logs", "repository", ("lipsumft",)
    ),
    "LP-FT ICLR 2022 (OpenReview text, Tables 1-2; 90% CI in text)": Source(
        "lpft-paper", "LP-FT", "Kumar et al., Fine-tuning can distort pretrained features (LP-FT), ICLR 2022, OpenReview", "own"
    ),
    "GitHub locuslab/FLYP issue #15 (user report)": Source(
        "flyp-issue", "FLYP issue 15", "github.com/locuslab/FLYP issue 15, a user's report", "user"
    ),
    "GitHub mlfoundations/wise-ft issue #6 (user report, authors: seems reasonable)": Source(
        "wise-ft-issue",
        "wise-ft issue 6",
        "github.com/mlfoundations/wise-ft issue 6, a user's report that the authors call reasonable",
        "user",
    ),
    "mlfoundations/open_clip@89fb801 docs/openclip_results.csv": Source(
        "open-clip", "open_clip", "mlfoundations/open_clip@89fb801 docs/openclip_results.csv", "repository"
    ),
    "LAION-AI/CLIP_benchmark@48de38c benchmark/benchmark.csv": Source(
        "clip-benchmark", "CLIP_benchmark", "LAION-AI/CLIP_benchmark@48de38c benchmark/benchmark.csv", "repository"
    ),
}
LEFT_OUT: Mapping[tuple[str, str], str] = {
    ("arXiv:2109.01903v3 (WiSE-FT)", "Table 7 (OCR)"): "few-shot: other training data than a suite's",
    ("VRF (Zhu et al., NeurIPS 2024)", "Table 3a"): "its only shift is STL-10, which no suite has",
    ("VRF (Zhu et al., NeurIPS 2024)", "Table 3b"): "its only shift is STL-10, which no suite has",
    ("mlfoundations/model-soups@d5398f1 result files", "individual_model_results.jsonl"): "read from model-soups/ itself",
    ("modestyachts/imagenet-testbed@0170eec robustness_top1s.csv", "robustness_top1s.csv row vit_b_32_clip_zeroshot"): (
        "read from imagenet-testbed/ itself"
    ),
    (
        "AnanyaKumar/transfer_learning@13c3e2b scripts/freeze-embed-paper-fine-tuning-results.ipynb",
        "cell 7",
    ): "FMoW ID val and the Africa region are test sets of no suite",
    ("OpenCodePapers leaderboard dump", "domain-generalization-on-imagenet-sketch"): "one figure, without an ID accuracy",
}
"""By source and table."""
NO_SET = {"ImageNet held-out minival (26k of train)": "held-out part of train: no test set"}
SOUP_SETS = {
    "ImageNet": "imagenet-val",
    "ImageNetV2": "imagenet-v2",
    "ImageNetR": "imagenet-r",
    "ImageNetSketch": "imagenet-sketch",
    "ImageNetA": "imagenet-a",
    "ObjectNet": "objectnet",
}
"""Keys of the soups' result files."""
INITIAL = "the linear classifier that the others start from"
"""What `model_0` of the soups is."""
ZERO_SHOT = {"vit_b_32_clip_zeroshot": "ViT-B/32", "resnet50_clip_zeroshot": "RN50"}
"""The testbed's CLIP models."""
SETS = {
    ("ImageNet", "top1"): ("imagenet", "imagenet-val"),
    ("ImageNet-V2", "top1"): ("imagenet", "imagenet-v2"),
    ("ImageNet-R", "top1"): ("imagenet", "imagenet-r"),
    ("ImageNet-Sketch", "top1"): ("imagenet", "imagenet-sketch"),
    ("ImageNet-A", "top1"): ("imagenet", "imagenet-a"),
    ("ObjectNet", "top1"): ("imagenet", "objectnet"),
    ("ObjectNet", "top1 (ObjectNet class names)"): ("imagenet", "objectnet-own-names"),
    ("ImageNet-Vid-Robust", "pm0"): ("video", "imagenet-vid-robust-pm0"),
    ("YTBB-Robust", "pm0"): ("video", "ytbb-robust-pm0"),
    ("CIFAR-10", "top1"): ("cifar10", "cifar10"),
    ("CIFAR-10.1", "top1"): ("cifar10", "cifar10.1"),
    ("CIFAR-10.2", "top1"): ("cifar10", "cifar10.2"),
    ("CIFAR-100", "top1"): ("transfer", "cifar100"),
    ("Stanford Cars", "top1"): ("transfer", "cars"),
    ("DTD", "top1"): ("transfer", "dtd"),
    ("SUN397", "top1"): ("transfer", "sun397"),
    ("Food-101", "top1"): ("transfer", "food101"),
    ("FMoW ID test", "acc_avg"): ("fmow", "fmow-id-test"),
    ("FMoW OOD test", "acc_worst_region"): ("fmow", "fmow-test"),
    ("iWildCam ID test", "f1_macro"): ("iwildcam", "iwildcam-id-test"),
    ("iWildCam OOD test", "f1_macro"): ("iwildcam", "iwildcam-test"),
    ("FMoW geo-shift ID (North America)", "top1"): ("fmow-geo", "fmow-geo-id"),
    ("FMoW geo-shift OOD (Africa+Europe)", "top1"): ("fmow-geo", "fmow-geo-ood"),
}
"""Data set and metric: suite and test set."""
OWN_NAMES = {"clip-benchmark"}
"""Reads ObjectNet under ObjectNet's class names without saying so: its figures are within 0.3 points of open_clip's."""
STARTS = {
    ("cifar10", "ResNet-50 (CLIP/MoCo-v2/MoCo-TP by dataset)"): "ResNet-50 (MoCo-v2)",
    ("fmow-geo", "ResNet-50 (CLIP/MoCo-v2/MoCo-TP by dataset)"): "ResNet-50 (MoCo-TP)",
}
METHODS = {
    "lc": ("lp", ""),
    "ft_e2e": ("ft", ""),
    "standard": ("noisy-student", ""),
    "wise_ft_e2e": ("wiseft", "over ft"),
    "wise_ft_lc": ("wiseft", "over lp"),
    "lp_ft": ("lpft", ""),
    "lp_ft+wise": ("wiseft", "over lpft"),
    "flyp+wise": ("wiseft", "over flyp"),
    "output_ensemble": ("ensemble", "zero-shot and ft"),
    "lp_ft+output_ensemble": ("ensemble", "zero-shot and lpft"),
    "flyp+output_ensemble": ("ensemble", "zero-shot and flyp"),
    "flyp+vrf": ("vrf", "over flyp"),
    "l2_sp": ("l2sp", ""),
    "car_ft": ("carft", ""),
    "lipsum_ft": ("lipsumft", ""),
    "static_self_distillation": ("self-distillation", "static"),
    "model_stock": ("model-stock", ""),
    "best_individual": ("ft", "best of the pool"),
    "greedy_ensemble": ("ensemble", "greedy"),
    "uniform_soup": ("uniform-soup", ""),
    "greedy_soup": ("greedy-soup", ""),
    "learned_soup": ("learned-soup", ""),
    "learned_soup_by_layer": ("learned-soup", "by layer"),
}
"""Method and variant; a method that is not here keeps its name."""


class Words(NamedTuple):
    """What a variant, without its alpha, says."""

    variant: str | None = None
    """None: what the method says."""
    note: str = ""
    provenance: Provenance | None = None


VARIANTS = {
    "": Words(),
    "ours": Words(),
    "PyTorch re-run": Words(),
    "fine-tuned": Words(),
    "standard fine-tuning": Words(),
    "no ensemble": Words(),
    "quoted": Words(),
    "user run": Words(),
    "(oracle)": Words(),
    "averages here = mean of per-column optima, unlike Table 1": Words(),
    "as reported by CLIP paper [82]": Words("as CLIP's paper reports", provenance="quoted"),
    "on E2E-FT": Words("over ft"),
    "on LP-FT": Words("over lpft"),
    "E2E-FT+ZS softmax probs": Words(note="mean of softmax probabilities"),
    "WiSE-FT released checkpoint": Words(note="WiSE-FT's released checkpoint"),
    "(IN-R/other cells as printed; 69.9 on IN-R looks inconsistent with +WSE 65.8)": Words(
        note="imagenet-r as printed: 69.9 agrees with the printed mean, but not with 65.8 for wiseft over lpft"
    ),
    "zero-shot CLIP L/14@336 + NoisyStudent EffNet-B6": Words("zero-shot and Noisy Student EfficientNet-B6"),
    "zero-shot CLIP L/14@336 + NoisyStudent EffNet-L2": Words("zero-shot and Noisy Student EfficientNet-L2"),
    "mean of 3 seeds": Words(note="mean of 3 seeds"),
    "quoted, mean": Words(note="mean over seeds"),
    "re-run, batch 128": Words(note="batch 128", provenance="rerun"),
    "72 models": Words(note="72 models"),
    "72 models, mean of logits": Words("mean of logits", "72 models"),
    "released checkpoint-4": Words(note="released checkpoint 4"),
    "lr=0.05 epochs=5": Words(note="lr 0.05, 5 epochs"),
    "openai weights, DataComp-eval harness": Words(note="OpenAI's weights, DataComp's evaluation"),
    "openai weights": Words(note="OpenAI's weights"),
    "HF openai/clip-vit-base-patch16, pre-resized 224 arrays": Words(note="Hugging Face weights, images resized beforehand"),
    "seed 0, 50k iters": Words(note="seed 0, 50,000 steps"),
    "vanilla (stronger recipe)": Words(note="a stronger recipe than WiSE-FT's"),
    "README command, user run": Words(note="the README's command"),
    "1 epoch, user run": Words(note="1 epoch"),
}
"""A variant that is not here is an error: nothing is guessed."""
SAME = {
    ("output_ensemble", "72 models"): "72 models, mean of logits",
    ("ft_e2e", "random head init for FT"): "",
    ("lp", "random head init for FT"): "",
    ("lp_ft", "random head init for FT"): "",
}
"""Per method, a variant that is another one's in other words."""
TABLES = {
    ("lpft-paper", "Table 1"): "Tables 1 and 2",
    ("lpft-paper", "Table 2"): "Tables 1 and 2",
    ("model-soups-paper", "tab:results"): "main results table",
    ("model-soups-repo", "ensemble branch: ensemble_results.jsonl"): "ensemble_results.jsonl",
    ("model-soups-repo", "docstring"): "wise-ft-example.py",
    ("model-soups-repo", "comment"): "learned_bylayer.py",
    ("dive-notes", "ViT-L/14"): "ImageNet ID/OOD",
}
SUITES = {("wiseft-paper", "Table 2"): "transfer"}
"""Tables all of whose figures belong to one suite."""
CURVES = {("wiseft-paper", "Table 5"), ("vrf-paper", "Table 8"), ("vrf-paper", "Table 9")}
"""Tables of alpha curves: 0, 0.5 and 1 are listed, the points between are drawn."""
JOINS = {
    ("wiseft-paper", "Table 6", "video"): ("Table 1", "imagenet-val"),
    ("wiseft-paper", "Table 6", "cifar10"): ("Table 2", "cifar10"),
}
"""Tables without ID accuracies: the table and set that have them, for the same start, method, variant and alpha."""
ORACLES = {
    "optimal alpha": "each figure at its own best alpha",
    "alpha by best ID val acc": "alpha chosen on ImageNet val, the ID test set",
}
"""What a variant says of an alpha that was chosen on test scores, and the note that tells it."""
SELECTION = {
    ("vrf-paper", "vrf"): {"hyperparameters": "oracle"},
    ("lipsum-ft", "lipsumft"): {"checkpoint": "oracle"},
    ("lpft-paper", "ft"): {"hyperparameters": "id_val"},
    ("lpft-paper", "lp"): {"hyperparameters": "id_val"},
    ("lpft-paper", "lpft"): {"hyperparameters": "id_val"},
    ("model-soups-repo", "greedy-soup"): {"ingredients": "id_val"},
    ("model-soups-repo", "learned-soup"): {"coefficients": "id_val"},
    ("model-soups-paper", "greedy-soup"): {"ingredients": "id_val"},
    ("model-soups-paper", "learned-soup"): {"coefficients": "id_val"},
    ("model-soups-paper", "ft"): {"ingredients": "id_val"},
}
"""Beside the rule of alpha. VRF and Lipsum-FT choose on ImageNet val, which is the ID test set: not `id_val` (DESIGN 7.5)."""
UNTOLD = {"tracer-paper", "tpgm"}
"""Sources that do not say how they tuned the methods of others."""
NOTES = {
    ("wiseft-paper", "Table 6", "video"): (
        "its zero-shot ytbb-robust-pm0 is 29 points above the testbed's ViT-B/32: perhaps read under the set's own class names"
    ),
    ("vrf-paper", "Table 9", "imagenet"): "but for one figure, alpha 0.1 to 0.9 are those of WiSE-FT's Table 5",
    ("vrf-paper", "Table 12", "imagenet"): (
        "columns by matching values: the printed header exchanges R, Sketch and A; ObjectNet is 4 points above other FLYP figures"
    ),
    ("lpft-paper", "Tables 1 and 2", "cifar10"): "mean of 3 seeds; ft starts from a random head",
    ("lpft-paper", "Tables 1 and 2", "fmow-geo"): "mean of 3 seeds; ft starts from a random head",
}
"""By folder, table and suite."""
