"""Make a world of the mini suite: its filtered set, suite file, answer key and baseline line.

    python scripts/mini_world.py --world 0 --out robustbench_ft/data     the shipped suite (about 10 minutes on one thread)
    python scripts/mini_world.py --world 100 --out worlds/100            another: --suite worlds/100/suites/mini-100.toml

The reference model that filters `mini-a` is not in the baseline's pool.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from robustbench_ft import packs, score_tables, suites
from robustbench_ft.baselines import Baseline
from robustbench_ft.baselines import Reference as PoolModel
from robustbench_ft.datasets import ImageSet, open_set
from robustbench_ft.files import write_atomic
from robustbench_ft.mini.captions import TEMPLATES
from robustbench_ft.mini.references import A_COUNT, A_FILTER, POOL, fit, wrong
from robustbench_ft.mini.shapes import CLASSES
from robustbench_ft.mini.world import size
from robustbench_ft.model import Classifier
from robustbench_ft.packs import Pack
from robustbench_ft.predict import predict
from robustbench_ft.records import Counts
from robustbench_ft.specs import DatasetSpec
from robustbench_ft.suites import Suite

SHIFTS = {
    "mini-v2": ("v2", "a new sample by a slightly different process"),
    "mini-sketch": ("sketch", "drawings in manners that pretraining has not seen"),
    "mini-rendition": ("rendition", "art styles that pretraining has not seen"),
    "mini-objectnet": ("objectnet", "turned, scaled and moved objects at other places"),
    "mini-a": ("a-pool", "what a net trained on ID alone gets wrong"),
}


def main() -> None:
    """Write everything of one world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-baseline", action="store_true", help="leave the reference pool out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    name = "mini" if given.world == 0 else f"mini-{given.world}"
    file = given.out / "suites" / f"{name}.toml"
    with tempfile.TemporaryDirectory() as store:
        make_suite(given.world, name, file, Path(store))
        if not given.no_baseline:
            write_atomic(
                file,
                text(
                    given.world,
                    name,
                    digests(file, Path(store)),
                    baseline="mini@1" if given.world == 0 else f"../baselines/{name}@1.json",
                ),
            )
            make_baseline(suites.parse(file), given.out / "baselines" / f"{name}@1.json", Path(store))


def make_suite(world: int, name: str, file: Path, store: Path) -> None:
    """Filter mini-a, then write suite file, list of kept images and answer key."""
    keep = file.with_name(f"{name}-a.txt")
    write_atomic(keep, "\n".join(str(i) for i in range(size("a-pool"))) + "\n")
    write_atomic(file, text(world, name, {}))
    draft = suites.parse(file)
    net = fit(A_FILTER, open_set(draft, draft.train, None, store))
    pool_spec = draft.shifts[-1].model_copy(update={"n": size("a-pool")})
    pool = open_set(draft, pool_spec, None, store)
    kept = wrong(net, pool, A_COUNT)
    print(f"mini-a: {len(kept)} of {len(pool)} candidates kept", flush=True)
    write_atomic(keep, "\n".join(map(str, kept)) + "\n")
    write_atomic(file, text(world, name, digests(file, store)))
    suite = suites.parse(file)
    found = {spec.name: open_set(suite, spec, None, store) for spec in suite.tests}
    key = {f"{n}/own": images.labels.astype("uint16") for n, images in found.items()}
    packs.save(Pack(suite.protocol, {n: images.digest for n, images in found.items()}, key), file.with_suffix(".key.safetensors"))


def digests(file: Path, store: Path) -> dict[str, tuple[int, str]]:
    """Count and content digest of every set of the suite as it renders here."""
    suite = suites.parse(file)
    found = {}
    for spec in (suite.train, suite.val, *suite.tests):
        free = spec.model_copy(update={"digest": None, "n": kept_count(suite, spec)})
        images = open_set(suite, free, None, store)
        found[spec.name] = (len(images), images.digest)
    return found


def kept_count(suite: Suite, spec: DatasetSpec) -> int:
    """Number of images of a set: of its split, or of its list of kept ones."""
    return size(spec.split) if spec.keep is None else len((suite.file.parent / spec.keep).read_text().split())


def text(world: int, name: str, known: dict[str, tuple[int, str]], baseline: str = "") -> str:
    """The suite file."""

    def dataset(head: str, title: str, split: str, extra: str = "") -> str:
        n, digest = known.get(title, (size(split), ""))
        line = f'digest = "{digest}"\n' if digest else ""
        return f'{head}\nname = "{title}"\nsplit = "{split}"\nn = {n}\n{line}{extra}'

    head = f'name = "{name}"\nversion = 1\ntitle = "Mini, world {world}: generated shapes, 32 x 32"\nstart = "mini-clip"\n'
    head += f'baseline = "{baseline}"\n' if baseline else ""
    head += 'recipes = "mini"\n'
    head += f"classes = [{', '.join(f'{c!r}' for c in CLASSES)}]\ntemplates = [{', '.join(f'{t!r}' for t in TEMPLATES)}]\n"
    head += f'\n[defaults]\nformat = "mini"\npath = "{world}"\nsource = "docs/mini.md"\nlicence = "MIT"\n'
    parts = [dataset(f"\n[{part}]", f"mini-{part}", part) for part in ("train", "val", "test")]
    for title, (split, what) in SHIFTS.items():
        keep = f'keep = "{name}-a.txt"\n' if split == "a-pool" else ""
        parts.append(dataset(f"\n# {what}\n[[shifts]]", title, split, keep))
    return head.replace("'", '"') + "".join(parts)


def counts_on(tests: list[ImageSet], net: Classifier) -> dict[str, Counts]:
    """Right answers per test set."""
    counts = {}
    for images in tests:
        answers = predict({"net": lambda: net}, images, {"own": None}, preprocess=net.preprocess)["net"]
        counts[images.name] = Counts(k=int((answers["own"] == images.labels).sum()), n=len(images))
    return counts


def make_baseline(suite: Suite, file: Path, store: Path) -> None:
    """Train the pool from scratch on ID, count its answers on every test set, write the baseline."""
    train = open_set(suite, suite.train, None, store)
    tests = [open_set(suite, spec, None, store) for spec in suite.tests]
    models = []
    for reference in POOL:
        begun = time.monotonic()
        counts = counts_on(tests, fit(reference, train))
        shown = "  ".join(f"{n.removeprefix('mini-')} {c.accuracy:.3f}" for n, c in counts.items())
        print(f"{reference.name}  {shown}  {time.monotonic() - begun:.0f} s", flush=True)
        models.append(PoolModel(name=reference.name, note=f"lr {reference.lr:g}, seed {reference.seed}", counts=counts))
    baseline = Baseline(
        id=f"{suite.name}@1",
        suite=suite.name,
        protocol=suite.protocol,
        id_set=suite.test.name,
        classes=len(suite.classes),
        source="nets trained from scratch on the suite's ID training images: scripts/mini_world.py",
        models=tuple(models),
    )
    baseline.save(file)
    print(score_tables.baseline_table(baseline, [suite]))


if __name__ == "__main__":
    main()
