"""Drawn images, class folders of them, and the same examples as tar shards and as parquet."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


def encoded(seed: int, suffix: str = ".jpg", mode: str = "RGB", size: tuple[int, int] = (44, 36)) -> bytes:
    """An image of noise as a file of that suffix holds it."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(noise, "CMYK") if mode == "CMYK" else Image.fromarray(noise[..., :3]).convert(mode)
    out = io.BytesIO()
    image.save(out, KINDS[suffix.lower()])
    return out.getvalue()


def write_class_folders(
    folder: Path, classes: Sequence[str], per_class: int = 2, *, name: str = "{folder}_{k}.JPEG"
) -> list[tuple[str, int, bytes]]:
    """Class folders of drawn images; gives back (name, label, content) of every image."""
    written = []
    for label, own in enumerate(classes):
        (folder / own).mkdir(parents=True)
        for k in range(per_class):
            file = folder / own / name.format(folder=own, k=k)
            file.write_bytes(encoded(100 * label + k, file.suffix))
            written.append((file.name, label, file.read_bytes()))
    return written


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A tar of these files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_shards(folder: Path, examples: Sequence[tuple[str, int, bytes]], per_shard: int = 3) -> list[Path]:
    """The examples as ``0.tar``, ``1.tar`` ... with ``.cls`` labels and ``nshards.txt``."""
    shards = [examples[k : k + per_shard] for k in range(0, len(examples), per_shard)]
    for number, shard in enumerate(shards):
        members = []
        for name, label, content in shard:
            members += [(f"{name.rpartition('.')[0]}.cls", str(label).encode()), (name, content)]
        write_tar(folder / f"{number}.tar", members)
    (folder / "nshards.txt").write_text(str(len(shards)))
    return [folder / f"{number}.tar" for number in range(len(shards))]


def write_parquet(
    folder: Path,
    split: str,
    examples: Sequence[tuple[str | None, int | None, bytes]],
    *,
    files: int = 2,
    per_group: int = 2,
    names: Sequence[str] = (),
) -> None:
    """The examples as Hugging Face writes them, in small row groups, with class names in the schema where given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(examples) // files)
    for number in range(files):
        part = examples[number * size : (number + 1) * size]
        images = pa.array([{"bytes": content, "path": name} for name, _, content in part])
        table = pa.table({"image": images, "label": pa.array([label for _, label, _ in part], pa.int64())})
        noted = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(noted)} if names else None)
        pq.write_table(table, folder / f"{split}-{number:05}-of-{files:05}.parquet", row_group_size=per_group)
