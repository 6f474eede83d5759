"""Write the names that GluonCV builds models by, and those with published parameters, as JSON to a file.

python gluon_models.py FILE; run by the parity tests in a separate process.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from converter.references.gluon_child import import_frameworks


def main(file: Path) -> None:
    import_frameworks()
    store = importlib.import_module("gluoncv.model_zoo.model_store")
    zoo = importlib.import_module("gluoncv.model_zoo.model_zoo")
    sha1s = dict(zip(store.pretrained_model_list(), store._model_sha1.values(), strict=True))
    file.write_text(json.dumps({"models": [*zoo.get_model_list()], "sha1s": sha1s}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
