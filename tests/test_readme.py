"""What the README shows a user doing runs, from top to bottom, on a random network."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"## Using a converted file\n(.*?)\n## ", re.DOTALL)
BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
NAME = "gluon_resnext50_32x4d"
OURS = (
    "predict",
    "publish",
    "verify",
)  # whose lines are run; evaluate and the examples have tests of their own
SIGNING = find_spec("model_signing") is not None


def blocks() -> list[tuple[str, str]]:
    found = SECTION.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    return BLOCK.findall(found[1])


def command(line: str, artifact: str) -> list[str] | None:
    """Return the line of a shell block as it can be run here, or None where it is not of ours."""
    words = shlex.split(line)
    if words[0] != "gluon2torch" or words[1] not in OURS or (".pem" in line and not SIGNING):
        return None
    words = [f"out/{artifact}" if word.startswith(f"out/{NAME}-") else word for word in words]
    extra = ["--allow-random", "--allow-unproven"] if words[1] == "publish" else []
    return [sys.executable, "-P", "-m", "converter", *words[1:], *extra]


def test_every_step_of_the_readme_runs(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    run = ["convert", NAME, "out", "--random", "0", "--reference", "none"]
    subprocess.check_call([sys.executable, "-P", "-m", "converter", *run], cwd=tmp_path)
    (artifact,) = (tmp_path / "out").glob("*.safetensors")
    image.effect_noise((320, 240), 64).convert("RGB").save(tmp_path / "dog.jpg")
    if SIGNING:
        from test_signature import ec, write  # noqa: PLC0415 - skipped where the package is not

        private, public = write(tmp_path, "key", ec.generate_private_key(ec.SECP256R1()))
        private.rename(tmp_path / "KEY.pem")
        public.rename(tmp_path / "PUB.pem")
    program = []
    for language, text in blocks():
        if language == "sh":
            lines = [command(line, artifact.name) for line in text.splitlines()]
            program += [f"subprocess.check_call({line!r})" for line in lines if line]
        elif "my.params" not in text:
            program.append(text)
    (tmp_path / "program.py").write_text("import subprocess\n" + "\n".join(program), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "published" / "model.safetensors").exists()
    assert (tmp_path / "signed" / "model.sig").exists() is SIGNING
    assert "'num_chs': 2048" in done.stdout
    assert "replaced by a fresh one for 10" in done.stderr


def test_the_steps_are_those_of_the_card() -> None:
    text = "\n".join(block for _, block in blocks())
    for step in ("create_transform", "topk(5)", "features_only", "num_classes=10", "train.py", "local-dir:"):
        assert step in text
