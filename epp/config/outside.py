"""Plugin classes from outside the source tree: installed packages and single files."""

import importlib.metadata
import sys
import traceback
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Final

from epp.config.catalogue import Catalogue, PluginClass, malformed
from epp.errors import ConfigError

GROUP: Final = "epp.plugins"
"""Entry point group; each entry names a plugin class or a module full of them."""
MAX_FILE_BYTES: Final = 1 << 20


def with_outside(catalogue: Catalogue, files: Iterable[str | Path] = ()) -> Catalogue:
    """`catalogue` with what installed packages and `files` offer. Raises ConfigError."""
    catalogue = catalogue.plus(installed_plugins(), f"entry points {GROUP}")
    for file in files:
        catalogue = catalogue.plus(file_plugins(file), str(file))
    return catalogue


def installed_plugins() -> tuple[PluginClass, ...]:
    """The classes that installed packages offer. Raises ConfigError when one cannot be loaded."""
    found: list[PluginClass] = []
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            loaded = entry.load()
        except Exception as fault:
            raise ConfigError([f"entry point {entry.name} ({entry.value}): {fault}"]) from fault
        found.extend(_of_module(loaded) if isinstance(loaded, ModuleType) else (loaded,))
    return tuple(found)


def file_plugins(path: str | Path) -> tuple[PluginClass, ...]:
    """The plugin classes a Python file defines: those with a text attribute `type` of their own.

    The file is run anew at each call, so that a reload sees what has changed in it. Raises
    ConfigError, with file and line where there is one.
    """
    path = Path(path)
    module = ModuleType("epp_plugin_file_" + sha256(str(path.resolve()).encode()).hexdigest()[:12])
    vars(module)["__file__"] = str(path)
    # Dataclasses and pydantic look a class's module up by name to read its annotations.
    sys.modules[module.__name__] = module
    _run(_source(path), path, module)
    classes = _of_module(module)
    if not classes:
        raise ConfigError(
            [f"{path}: defines no plugin; a plugin is a class with type = 'its-name' and a method"]
        )
    if problems := [_problem(path, c, fault) for c in classes if (fault := malformed(c))]:
        raise ConfigError(problems)
    return classes


def _run(source: bytes, path: Path, module: ModuleType) -> None:
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except SyntaxError as fault:
        raise ConfigError([f"{path}:{fault.lineno}: is not Python: {fault.msg}"]) from None
    except Exception as fault:
        said = f"{type(fault).__name__}: {fault}"
        raise ConfigError([f"{path}:{_line(fault, path)}: cannot be loaded: {said}"]) from fault


def _source(path: Path) -> bytes:
    try:
        source = path.read_bytes()
    except OSError as fault:
        raise ConfigError([f"{path}: cannot be read: {fault.strerror}"]) from None
    if len(source) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: is larger than {MAX_FILE_BYTES} bytes"])
    return source


def _of_module(module: ModuleType) -> tuple[PluginClass, ...]:
    return tuple(
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and item.__module__ == module.__name__
        and isinstance(vars(item).get("type"), str)
    )


def _line(fault: Exception, path: Path) -> int:
    """The last line of the file itself on the way to the fault."""
    frames = [f for f in traceback.extract_tb(fault.__traceback__) if f.filename == str(path)]
    return frames[-1].lineno or 1 if frames else 1


def _problem(path: Path, plugin: PluginClass, said: str) -> str:
    line = getattr(plugin, "__firstlineno__", None) or _first_line(path, plugin.__name__)
    return f"{path}:{line}: {plugin.__name__}: {said}"


def _first_line(path: Path, name: str) -> int:
    lines = path.read_text(errors="replace").splitlines()
    return next((i for i, line in enumerate(lines, 1) if line.startswith(f"class {name}")), 1)
