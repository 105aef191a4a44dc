"""Installed packages, from their metadata only: without imports nothing can be slow or crash."""

from __future__ import annotations

import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

_PROJECT = "unimoe"
# The form of a requirement in metadata: `onnx>=1.19; sys_platform == "linux" and extra == "export"`.
_NAME = re.compile(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*([^;]*)")
_CLAUSE = re.compile(r"""(extra|sys_platform|platform_machine)\s*==\s*["']([^"']+)["']""")
_AT_LEAST = re.compile(r">=\s*(\d+(?:\.\d+)*)")


@dataclass(frozen=True, kw_only=True)
class Need:
    """A package of an extra. `available`: wheels for this machine exist."""

    name: str
    at_least: tuple[int, ...]
    available: bool

    def fault(self) -> str | None:
        """The problem; None where the package is installed and new enough."""
        found = installed(self.name)
        if found is None:
            return f"{self.name} is missing"
        if numbers(found) < self.at_least:
            return f"{self.name} {found} is older than {'.'.join(map(str, self.at_least))}"
        return None


def installed(package: str) -> str | None:
    """The version of an installed package, None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version: (1, 31, 0) for "1.31.0rc1"."""
    return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", text)[0]))  # type: ignore[index]


def extras(names: tuple[str, ...]) -> dict[str, tuple[Need, ...]]:
    """The needs of this project's extras; the empty name is the base. Empty where the metadata is missing."""
    found: dict[str, list[Need]] = {name: [] for name in names}
    for requirement, extra in _requirements():
        match = _NAME.match(requirement)
        if match is None or extra not in found:
            continue
        at_least = _AT_LEAST.search(match[2])
        here = {"sys_platform": sys.platform, "platform_machine": platform.machine()}
        available = all(here.get(name, value) == value for name, value in _CLAUSE.findall(requirement))
        need = Need(name=match[1], at_least=numbers(at_least[1]) if at_least else (), available=available)
        found[extra].append(need)
    return {name: tuple(needs) for name, needs in found.items() if needs}


def _requirements() -> Iterator[tuple[str, str]]:
    """Requirements with their extra, "" for the base."""
    try:
        for requirement in requires(_PROJECT) or ():
            clauses = dict(_CLAUSE.findall(requirement))
            yield requirement, clauses.get("extra", "")
    except PackageNotFoundError:
        yield from _of_checkout(Path(__file__).parents[3] / "pyproject.toml")


def _of_checkout(file: Path) -> Iterator[tuple[str, str]]:
    """The same for a checkout that runs without installation."""
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return
    if project.get("name") == _PROJECT:
        for requirement in project.get("dependencies", ()):
            yield requirement, ""
        for extra, requirements in project.get("optional-dependencies", {}).items():
            for requirement in requirements:
                yield requirement, extra
