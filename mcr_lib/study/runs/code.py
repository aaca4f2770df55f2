"""Fingerprints of code: of every module that a stage imports, directly or not."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mcr_lib
from mcr_lib.data.files import read_text
from mcr_lib.study.runs.artifacts import fingerprint

PACKAGE = Path(mcr_lib.__file__).parent
MAKE_ROWS = ("mcr_lib.data.mrsi", "mcr_lib.data.modality")
HARNESS = "mcr_lib.study.runs.prepare"  # makes rows from a configuration; its imports are not followed
ENTRIES = {stage: (f"mcr_lib.training.{stage}", *MAKE_ROWS) for stage in ("sft", "cvo", "generate")}


def code_fingerprint(stage: str, package: Path = PACKAGE) -> str:
    """Fingerprint of all code that a stage runs on; `package` is the folder of `mcr_lib`."""
    return fingerprint([(name, _read(path)[0]) for name, path in reachable(stage, package).items()])


def reachable(stage: str, package: Path = PACKAGE) -> dict[str, Path]:
    """Name -> file of the modules that a stage imports, directly or not, also within functions; sorted."""
    modules, waiting = {HARNESS: _file(HARNESS, package)}, list(ENTRIES[stage])
    while waiting:
        name = waiting.pop()
        if name not in modules and (path := _file(name, package)) is not None:
            modules[name] = path
            waiting += [name.rpartition(".")[0], *_read(path)[1]]
    return dict(sorted(modules.items()))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every absolute name that a file imports, with its line: modules, and names that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _file(name: str, package: Path) -> Path | None:
    """The file of a module of the package; `None` for any other name."""
    first, *rest = name.split(".")
    base = package.joinpath(*rest)
    files = (base.with_suffix(".py"), base / "__init__.py") if first == package.name else ()
    return next(filter(Path.is_file, files), None)


def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """Fingerprint of a file without comments, docstrings and layout, and the names that it imports."""
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, changed_ns: int) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(read_text(path))
    names = tuple(name for name, _ in imports(tree))
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            texts = [p for p in body if isinstance(p, ast.Expr) and isinstance(p.value, ast.Constant)]
            node.body = [part for part in body if part not in texts]
    return fingerprint(ast.dump(tree)), names
