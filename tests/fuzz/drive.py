"""Fuzz one reader with atheris: ``python -m fuzz.drive TARGET FOLDER RUNS``; see ``campaign``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["converter", "tomllib", "zipfile", "gzip", "tarfile"]):
    from fuzz.confined import confine
    from fuzz.mutation import MAX_BYTES
    from fuzz.targets import LIMIT_SECONDS, TARGETS, attempt

HEADROOM = 1 << 30  # bytes beyond the memory mapped after the imports; includes libFuzzer's corpus
MEMORY = Path("/dev/shm")  # noqa: S108 - an in-memory file system, if there is one


def main(name: str, folder: Path, runs: int) -> None:
    """Mutate the target's seeds ``runs`` times; libFuzzer saves crashing files in ``folder``."""
    target = TARGETS[name]
    seeds, corpus = folder / "seeds", folder / "corpus"
    for place in (seeds, corpus):
        place.mkdir(parents=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(seed)

    def mutate(content: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311 - reproducible
        if random.random() < 0.3:
            return bytes(atheris.Mutate(content, max_size))
        for _ in range(random.choice((1, 1, 2, 3))):
            content = target.mutate(content, random)
        return content[:max_size]

    options = {
        "runs": runs,
        "timeout": LIMIT_SECONDS,
        "max_len": MAX_BYTES,
        "rss_limit_mb": 0,  # RLIMIT_AS sets the limit
        "print_final_stats": 1,
        "seed": 1,
        "artifact_prefix": f"{folder}/",
    }
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place_name:
        inputs = Path(place_name)
        arguments = [f"-{option}={value}" for option, value in options.items()]
        atheris.Setup(
            [sys.argv[0], *arguments, str(corpus), str(seeds)],
            lambda content: attempt(target, content, inputs),
            custom_mutator=mutate,
        )
        confine(HEADROOM)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
