"""The commands of the README's run as pasted, in order; those of docs/using.md run on a random network."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pages
import pytest

from converter.commands import listing
from converter.networks import zoo
from converter.networks.zoo import TargetKind

ROOT = Path(__file__).parents[1]
SETUP = re.compile(r"\.venv/bin/pip install")
BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
NAME = "gluon_resnext50_32x4d"
COMMANDS = ("predict", "publish", "verify")  # that are run; evaluate and the examples have their own tests
FIGURE = re.compile(r"\b(\d+(?:\.\d+)?)[ \n](s|ms|MB|GB)\b")
PACKAGES = ("0.8 GB", "6 GB", "80 MB")  # the sizes of installed environments, which no benchmark measures
SIGNING = find_spec("model_signing") is not None


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the README's commands read."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """The variables of an activated environment."""
    scripts = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONSAFEPATH": "1"}


def test_readme_begins_with_two_commands_that_set_everything_up() -> None:
    setup = [text.strip() for _, text in blocks("README.md") if SETUP.search(text)]
    assert len(setup) == 2
    assert [text for _, text in blocks("README.md")][:2] == [f"{text}\n" for text in setup]
    assert setup[0].endswith("&& .venv/bin/convert gluon_resnext101_64x4d out/ --random 0")
    assert setup[1].endswith("&& .venv/bin/nox")
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(setup[1])


def test_every_command_of_the_readme_runs_as_pasted(
    checkout: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    pasted = [(language, text) for language, text in blocks("README.md") if not SETUP.search(text)]
    programs = "\n".join(text for language, text in pasted if language == "python")
    scripts = [["sh", "-euxc", text] for language, text in pasted if language != "python"]
    printed = []
    for command in [*scripts, [sys.executable, "-c", programs]]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    said = "".join(printed)
    assert "gluon_cifar_resnext29_32x4d-9fbe8d13.safetensors" in said
    assert "same    as the file that these weights were converted from, byte for byte" in said
    assert {path.name for path in checkout.iterdir()} >= {"cifar", "parity.html", "back.params"}


def family_table() -> list[str]:
    """Return the README's table of families as the data have it: a row for each task."""
    rows = []
    for task, families in groupby(listing.overview(), lambda family: family.description.task):
        of_task = list(families)
        targets = sum((family.targets for family in of_task), Counter[TargetKind | None]())
        titles = ", ".join(family.description.title for family in of_task)
        cells = (task.replace("-", " "), titles, str(targets.total()), listing.becomes(targets))
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def unsourced(text: str) -> list[str]:
    """Return the times and sizes in a text that are neither in the benchmarks nor those of packages."""
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    (unproven,) = re.findall(r"^\| `convert --reference none` \| (.*) \|$", page, re.MULTILINE)
    seconds, _, _, peak, *_ = unproven.split(" | ")
    known = {*(f"{number} {unit}" for number, unit in FIGURE.findall(page)), f"{seconds} s", f"{peak} MB"}
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    figures = [f"{number} {unit}" for number, unit in FIGURE.findall(prose)]
    return [figure for figure in figures if figure not in {*known, *PACKAGES}]


def test_every_figure_is_in_the_benchmarks() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert unsourced(text) == []
    (seconds,) = re.findall(r"\d\.\d\d s\b", text)
    changed = text.replace(seconds, "9.87 s").replace("334 MB", "34 MB").replace("88 MB", "88 s")
    assert unsourced(changed) == ["34 MB", "9.87 s", "88 s"]


def test_table_of_families_equals_the_data() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("| task | families | models | become |\n|---|---|---|---|\n")
    table, _, _ = rest.partition("\n\n")
    assert table.splitlines() == family_table()
    assert f"{len(zoo.models())} models by name, in {len(listing.overview())} families" in text
    assert table.replace("AlexNet, ", "").splitlines() != family_table()  # negative control


def test_programs_of_the_api_page_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    programs = [text for language, text in blocks("docs/api.md") if language == "python"]
    assert programs
    pages.run_python("\n".join(programs))


def test_example_parameters_are_those_that_their_program_writes(tmp_path: Path) -> None:
    written = tmp_path / "again.params.gz"
    subprocess.run([sys.executable, ROOT / "examples" / "small_params.py", written], check=True)
    example = ROOT / "examples" / "cifar10.params.gz"
    assert gzip.decompress(written.read_bytes()) == gzip.decompress(example.read_bytes())


def command(line: str, artifact: str) -> str:
    """Return a shell line as a command that can run here, "" if it is not one of ours."""
    words = shlex.split(line)
    if words[0] != "gluon2torch" or words[1] not in COMMANDS or (".pem" in line and not SIGNING):
        return ""
    words = [f"out/{artifact}" if word.startswith(f"out/{NAME}-") else word for word in words]
    extra = ["--allow-random", "--allow-unproven"] if words[1] == "publish" else []
    return shlex.join([*words, *extra])


def test_every_step_of_using_a_converted_file_runs(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    monkeypatch.chdir(checkout)
    pages.run_command(f"convert {NAME} out --random 0 --reference none")
    (artifact,) = (checkout / "out").glob("*.safetensors")
    if SIGNING:
        from test_signature import ec, write  # noqa: PLC0415 - skipped where the package is missing

        private, public = write(checkout, "key", ec.generate_private_key(ec.SECP256R1()))
        private.rename(checkout / "KEY.pem")
        public.rename(checkout / "PUB.pem")
    printed, variables = "", {"__name__": "__main__"}
    for language, text in blocks("docs/using.md"):
        if language == "sh":
            lines = [command(line, artifact.name) for line in text.splitlines()]
            printed += "".join(pages.run_command(line) for line in lines if line)
        elif "my.params" not in text:
            printed += pages.run_python(text, variables)
    assert (checkout / "published" / "model.safetensors").exists()
    assert "**fine-tuned** from" in (checkout / "published-tuned" / "README.md").read_text()
    assert (checkout / "signed" / "model.sig").exists() is SIGNING
    assert "'num_chs': 2048" in printed
    assert "replaced the head for 1000 classes by a new one for 10" in caplog.text


def test_page_on_using_has_the_steps_of_the_card() -> None:
    text = "\n".join(block for _, block in blocks("docs/using.md"))
    for step in ("create_transform", "topk(5)", "features_only", "num_classes=10", "train.py", "local-dir:"):
        assert step in text
