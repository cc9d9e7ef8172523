"""Random stories over USB, with the faults of USB beside the others and the same judges."""

from __future__ import annotations

from typing import Final

import pytest

from tests.world.odometer import TOTAL
from tests.world.story import OVER_USB, tell

SEEDS: Final = (0, 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_story_over_usb_breaks_a_limit_and_every_story_ends_well(
    seed: int, pytestconfig: pytest.Config
) -> None:
    replayed = pytestconfig.getoption("--seed")
    if replayed is not None and seed != SEEDS[0]:
        pytest.skip(f"replaying seed {replayed} alone")
    result = tell(seed if replayed is None else replayed, OVER_USB)
    TOTAL.add(result)
    assert not result.wrong, result.story()
