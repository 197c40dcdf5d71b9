"""Methods: values that map a classifier to a classifier; and the folder that holds them.

    class WiseFT(Method):
        \"\"\"Weight-space ensemble of the start and the fine-tuned model (Wortsman et al., 2022).\"\"\"

        alpha: Fraction = 0.5
        base: AnyMethod = method("ft")

        def adapt(self, start: Classifier, task: Task) -> Classifier:
            return interpolate(start, self.base.fit(start, task), self.alpha)

A method is one file in ``methods/``, named as on the command line, or any file given by its path.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationInfo, model_validator

from robustbench_ft import recipes
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.overrides import assign
from robustbench_ft.values import Value

if TYPE_CHECKING:
    from robustbench_ft.batches import Images
    from robustbench_ft.datasets import ImageSet
    from robustbench_ft.model import Classifier
    from robustbench_ft.train import Recipe

Fraction = Annotated[float, Field(ge=0, le=1)]
Alphas = Annotated[tuple[Fraction, ...], Field(min_length=1)]
"""A grid to choose alpha from."""
FROM_FILE = "rbft_method_file."  # module prefix of methods given by path


@dataclass(frozen=True)
class Supported:
    """The val set of another task whose accuracy is to be kept, and the words of its zero-shot head."""

    val: ImageSet
    classes: tuple[str, ...]
    templates: tuple[str, ...]

    def described(self) -> tuple[Any, ...]:
        """What tells it from others, as JSON."""
        return self.val.digest, self.classes, self.templates


@dataclass(frozen=True)
class Task:
    """What a method may see: train and val of one suite, its words, and the seed. No test and no OOD data."""

    suite: str
    train: ImageSet
    val: ImageSet
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    seed: int = 0
    supported: tuple[Supported, ...] = field(default=())
    """Other tasks, whose accuracy is to be kept (patching)."""

    def with_seed(self, seed: int) -> Task:
        """The same task under another seed."""
        return replace(self, seed=seed)

    def training(self, start: Classifier, recipe: Recipe) -> Images:
        """The training images as ``recipe`` wants them: augmented, mixed, or under the eval transform."""
        from robustbench_ft.batches import Images, Mixup

        mixup = Mixup(recipe.mixup, len(self.classes)) if recipe.mixup else None
        return Images(self.train, start.preprocess, augment=recipe.augmentation(), mixup=mixup)

    def accuracy(self, model: Classifier) -> float:
        """Top-1 on val, in [0, 1]: what a recipe that looks at val chooses by."""
        from robustbench_ft.predict import accuracy

        return accuracy(model, self.val)


class PathPoint(NamedTuple):
    """One named member of a method's family of results; ``classifier`` makes it when it is evaluated."""

    name: str
    classifier: Callable[[], Classifier]
    alpha: float | None = None


class Method(BaseModel):
    """Base of all methods: its fields are its hyperparameters, ``adapt`` is the method."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    name: ClassVar[str]
    source: ClassVar[Path]
    """The method's file."""
    deterministic: ClassVar[bool] = False
    """True where the seed changes nothing."""
    reads_data: ClassVar[bool] = True
    """False where it reads neither train nor val, so that they need not be there."""
    data_beyond_id: ClassVar[str] = "none"
    """What it uses besides the ID data of the suite."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__module__.rpartition(".")[2]
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        cls.source = Path(file or __file__)

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        """The adapted classifier; ``start`` is left as it was."""
        raise NotImplementedError

    def fit(self, start: Classifier, task: Task) -> Classifier:
        """``adapt`` under the seal, seeded by ``task.seed``, and kept in the store: done before, it is read back."""
        from robustbench_ft.store import fit

        return fit(self, start, task)

    def headline(self, fitted: Classifier) -> tuple[str, float | None]:
        """Name and alpha of the point that stands for the method, whose classifier ``fitted`` is (see ``fitted.chosen``)."""
        return self.name, None

    def path(self, start: Classifier, task: Task) -> Iterable[PathPoint]:
        """Further results of the family (alphas, soup sizes, checkpoints), evaluated in the same pass over the images."""
        return ()

    def dump(self) -> dict[str, Any]:
        """Name and every field as JSON, nested methods in full."""
        return {"method": self.name, **self.model_dump(mode="json")}

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipes(cls, data: Any, info: ValidationInfo) -> Any:
        """Fields that are not given come from the recipe table of the suite, then from the class.

        So do the fields of a value such as ``recipe``: where the table gives a rate alone, the rest stays the class's.
        """
        if not isinstance(data, dict):
            return data
        if info.context:
            data = recipes.merge(recipes.fields(info.context["recipes"], cls.name), data)
        _refuse_unknown(cls.name, data, cls.model_fields)
        values = {name: f.default for name, f in cls.model_fields.items() if isinstance(f.default, Value)}
        for name in (name for name in values.keys() & data.keys() if isinstance(data[name], dict)):
            _refuse_unknown(f"{cls.name}, {name}", data[name], type(values[name]).model_fields)
            data = data | {name: recipes.merge(values[name].model_dump(mode="json"), data[name])}
        return data


def _refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in sorted(set(given) - set(known)):
        raise UnknownName(f"field of {what}:", name, known, hint=f"rbft show {what.partition(',')[0]}")


def _to_method(value: Any, info: ValidationInfo) -> Method:
    if isinstance(value, Method):
        return value
    given = {"method": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(given.get("method"), str):
        raise ValueError("expected a method: its name, or a table with its name under 'method'")
    rest = {name: field for name, field in given.items() if name != "method"}
    return load(given["method"]).model_validate(rest, context=info.context)


def _dump(value: Method) -> dict[str, Any]:
    return value.dump()


if TYPE_CHECKING:
    AnyMethod = Method
else:
    AnyMethod = Annotated[Method, PlainValidator(_to_method), PlainSerializer(_dump)]
    """A field that holds a method; validates from a name, a dump or a method."""


def method(name: str, **fields: Any) -> Any:
    """Default of a field that holds a method, resolved when it is needed: no file imports another method's file."""
    return Field(default={"method": name, **fields})


def names() -> list[str]:
    """The methods in the folder."""
    return sorted(path.stem for path in folder().glob("*.py") if not path.stem.startswith("_"))


def folder() -> Path:
    """Where the package's methods lie."""
    spec = importlib.util.find_spec("robustbench_ft.methods")
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def load(name: str) -> type[Method]:
    """The method of that name (dashes, underscores and capitals do not matter), or of that ``.py`` file."""
    known = {_plain(stem): stem for stem in names()}
    if name.endswith(".py") and (path := Path(name).resolve()).parent == folder().resolve():
        name = path.stem
    elif name.endswith(".py"):
        if _plain(path.stem) in {*known, "start"}:
            raise UsageError(f"{path}: the name {path.stem} is taken", hint="give the file a name of its own")
        return _only_method(_module_of_file(path))
    if (from_file := sys.modules.get(FROM_FILE + name)) is not None:
        return _only_method(from_file)
    if _plain(name) not in known:
        raise UnknownName("method", name, known.values(), hint="a method of your own: --method path/to/file.py")
    return _only_method(importlib.import_module(f"robustbench_ft.methods.{known[_plain(name)]}"))


class Described(NamedTuple):
    """What a method's file says of itself, read without running it."""

    name: str
    summary: str
    fields: dict[str, str]


def describe(path: Path) -> Described:
    """Name, first line of the docstring and fields (name to default, as source) of a method file, by parsing alone."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id == "Method" for base in node.bases):
            fields = {
                line.target.id: ast.unparse(line.value) if line.value else ""
                for line in node.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
                and not ast.unparse(line.annotation).startswith("ClassVar")
            }  # fmt: skip
            return Described(path.stem, (ast.get_docstring(node) or "").partition("\n")[0], fields)
    raise UsageError(f"{path} defines no Method")


def configure(name: str, *, recipe_table: str, overrides: Sequence[tuple[str, Any]] = ()) -> Method:
    """A method with the defaults of a recipe table and ``overrides`` of dotted fields, applied in order.

    UsageError names the field, what was given and what was expected.
    """
    context, kind = {"recipes": recipe_table}, load(name)
    value = _validate(kind, {}, context)
    for path, given in overrides:
        data = value.dump()
        data.pop("method")
        assign(data, path, given, kind.name)
        value = _validate(kind, data, context)
    return value


def _validate(kind: type[Method], data: dict[str, Any], context: dict[str, str]) -> Method:
    from pydantic import ValidationError

    try:
        return kind.model_validate(data, context=context)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{kind.name}: {at}: {first['msg']}, got {first['input']!r}", hint=f"rbft show {kind.name}") from error


def _plain(name: str) -> str:
    return re.sub("[-_ ]", "", name).lower()


@cache
def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"no method file at {path}", hint="rbft list methods")
    spec = importlib.util.spec_from_file_location(FROM_FILE + path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise UsageError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _only_method(module: ModuleType) -> type[Method]:
    found = [
        value for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]  # fmt: skip
    if len(found) != 1:
        raise UsageError(f"{module.__file__} defines {len(found)} methods, expected one subclass of Method")
    return found[0]
