"""The install command matches the installation: a checkout, an installed folder, or an index."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from unimoe_runtime import install

ROOT = Path(__file__).parents[2]


class Installed:
    def __init__(self, direct_url: str | None) -> None:
        self._direct_url = direct_url

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._direct_url


def installed_from(monkeypatch: pytest.MonkeyPatch, direct_url: str | None) -> None:
    monkeypatch.setattr(install, "distribution", lambda name: Installed(direct_url))


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Installed:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(install, "distribution", missing)
    assert install.install_command("cpu") == f'pip install -e "{ROOT}[cpu]"'


@pytest.mark.parametrize(("editable", "flag"), [(True, "-e "), (False, "")])
def test_a_folder_that_was_installed(monkeypatch: pytest.MonkeyPatch, editable: bool, flag: str) -> None:
    url = {"url": "file:///home/me/uni%20moe", "dir_info": {"editable": editable}}
    installed_from(monkeypatch, json.dumps(url))
    assert install.install_command("cpu", "export") == f'pip install {flag}"/home/me/uni moe[cpu,export]"'


@pytest.mark.parametrize("direct_url", [None, "", "no json"])
def test_an_installation_from_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, direct_url: str | None) -> None:
    installed_from(monkeypatch, direct_url)
    monkeypatch.setattr(install, "__file__", str(tmp_path / "a" / "unimoe_runtime" / "install.py"))
    assert install.install_command("gpu") == 'pip install "unimoe[gpu]"'
    assert install.install_command() == 'pip install "unimoe"'
