"""docs/extending.md as a newcomer follows it, and what is refused of other people's methods."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmnar.errors import ConfigError
from mmnar.estimators.registry import estimator
from mmnar.models import registry
from mmnar.report.cards import UNSAID
from mmnar.study import code

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.M | re.S)


def files() -> dict[str, str]:
    """File → its text on the page."""
    return {name: text for _, name, text in BLOCK.findall(PAGE.read_text()) if name}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_fusion", None)
    registry.brought.cache_clear()


def test_the_page_runs_from_top_to_bottom(there: Path) -> None:
    commands = [c for kind, name, text in BLOCK.findall(PAGE.read_text()) if kind == "sh" for c in text.splitlines()]
    assert len(commands) == 5
    paths = os.pathsep.join([str(there), *sys.path])
    said = []
    for command in commands:
        verb, *rest = command.split()
        words = [sys.executable, *rest] if verb == "python" else [sys.executable, "-m", "mmnar", *rest]
        done = subprocess.run(
            words,
            cwd=there,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout)
    assert "Mean of modalities" in said[3]
    assert UNSAID in said[3]
    result = json.loads((there / "study" / "result.json").read_text())
    assert set(result["tables"][0]["tasks"]["worse"]) == {row["name"] for row in result["study"]["rows"]}
    assert not result["failures"]


def test_an_installed_package_brings_a_method_by_name(there: Path) -> None:
    """What an installer leaves of the entry points on the page."""
    ((name, target),) = re.findall(r'^([\w-]+) = "(my_fusion:\w+)"$', files()["pyproject.toml"], re.M)
    info = there / "my_fusion-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-fusion\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {target}\n")
    registry.brought.cache_clear()
    assert registry.brought() == {name: target}
    assert estimator(name, "model.width=16").card["title"] == "Mean of modalities"
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nzero-fill = {target}\n")
    registry.brought.cache_clear()
    with pytest.raises(ConfigError, match=r"'zero-fill'.*one method of a name"):
        estimator("crl-mmnar")


def test_a_changed_module_of_another_package_is_other_code(there: Path) -> None:
    file = there / "my_fusion.py"
    (there / "mine_too.py").write_text("x = 1\n")

    def fingerprint() -> str:
        for cached in (code._imports, code._meaning, code.code_fingerprint):
            cached.cache_clear()
        return code.code_fingerprint("my_fusion:MeanFusion")

    first = fingerprint()
    assert "mmnar.ops.masked" in code.reached(("my_fusion",))
    file.write_text(file.read_text().replace('"""The mean of what', '# another comment\n"""The average of what'))
    assert fingerprint() == first
    file.write_text(file.read_text().replace("masked_mean(h, batch.present)", "h.sum(1)"))
    assert fingerprint() != first


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("no_such_module:Model", "a module that can be imported"),
        ("my_fusion:MeanConfig", "a subclass of mmnar.models.base.Model"),
        ("my_fusion:Absent", "a subclass of mmnar.models.base.Model"),
    ],
)
def test_what_is_no_method_is_refused(there: Path, name: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        estimator(name)
