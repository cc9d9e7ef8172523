"""One look at the rules of the guard: every interlock with its present value."""

from __future__ import annotations

from tmsctl.ipc.messages import Interlock, Snapshot, ToService


class Inspection:
    """Collects the answer to one ReadInterlocks: all of them, and then the next snapshot."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Interlock] = {}  # by table and code
        self.complete = False

    def hear(self, item: ToService) -> None:
        if isinstance(item, Interlock) and not self.complete:
            self.found[item.table, item.code] = item
        elif isinstance(item, Snapshot) and self.found:
            self.complete = True
