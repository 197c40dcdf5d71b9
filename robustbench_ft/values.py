"""Frozen values that refuse what they do not know, and what is said of one that is wrong."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, ValidationError


class Value(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(cached_property,))


def fault(error: ValidationError) -> str:
    """The first thing that is wrong: ``field: what is wrong with it``."""
    first = error.errors()[0]
    told = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {told}"
