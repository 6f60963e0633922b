"""Which remarks of a library are noise to somebody at the command line?"""

from __future__ import annotations

import logging
import warnings


def quiet_lightning() -> None:
    """Leaves out Lightning's notes on devices and tips, and its advice on loaders it does not know."""
    for name in (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
