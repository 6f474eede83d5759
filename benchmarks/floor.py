"""Do the minimum work of a conversion: read, SHA-1, copy and SHA-256 in one pass.

floor.py SOURCE DESTINATION
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

CHUNK = 1 << 20

sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
with Path(sys.argv[1]).open("rb") as source, Path(sys.argv[2]).open("wb") as destination:
    while chunk := source.read(CHUNK):
        sha1.update(chunk)
        sha256.update(chunk)
        destination.write(chunk)
