"""The seal that a permit carries. Who may import it is an import-linter contract."""

from typing import Final

SEAL: Final = object()
