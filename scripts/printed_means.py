"""Printed means against the figures that they are means of: what rounding cannot explain is told, and never corrected."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

SHIFTS = ("ImageNet-V2", "ImageNet-R", "ImageNet-Sketch", "ObjectNet", "ImageNet-A")
WITHOUT_OBJECTNET = tuple(name for name in SHIFTS if name != "ObjectNet")
MEANS = {
    "avg5shifts": ("OOD mean", SHIFTS),
    "avg4shifts(no ObjectNet)": ("OOD mean without ObjectNet", WITHOUT_OBJECTNET),
    "avg(ImageNet,avg5shifts)": ("mean of ID and OOD mean", ("ImageNet", *SHIFTS)),
    "harmonic_mean(ID,avg5shifts)": ("harmonic mean of ID and OOD mean", ("ImageNet", *SHIFTS)),
}
"""Name in the file: name in a note, and the sets that it is a mean of."""


def half(text: str) -> float:
    """Half a unit of the last digit of a percentage as printed."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def mean(kind: str, values: Mapping[str, float]) -> float:
    """The mean of that kind; it grows with every value."""
    ood = fmean(values[name] for name in MEANS[kind][1] if name != "ImageNet")
    if kind.startswith("avg("):
        return (values["ImageNet"] + ood) / 2
    return 2 / (1 / values["ImageNet"] + 1 / ood) if kind.startswith("harmonic") else ood


def told(printed: Mapping[str, str]) -> list[str]:
    """What the printed means say that the figures do not: a mean without its figures, or another than theirs.

    ``printed``: per data set, or kind of mean, the percentage as printed.
    """
    said = []
    for kind, (words, parts) in MEANS.items():
        if kind not in printed:
            continue
        if not set(parts) <= printed.keys():
            said.append(f"printed {words} {printed[kind]}, without its parts")
            continue
        low, exact, high = (
            mean(kind, {name: float(printed[name]) + side * half(printed[name]) for name in parts}) for side in (-1, 0, 1)
        )
        value, slack = float(printed[kind]), half(printed[kind]) + 1e-9
        if not low - slack <= value <= high + slack:
            said.append(f"printed {words} {printed[kind]}, from the figures {exact:.2f}")
    return said
