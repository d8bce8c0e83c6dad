"""Histories whose events lie in files, as those of a prepared log do."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from attncore.sequences import Histories


def memory_mapped(histories: Histories, folder: Path) -> Histories:
    """The same histories with their events in files of a folder, not in memory."""
    folder.mkdir(parents=True, exist_ok=True)

    def mapped(name: str, column: np.ndarray) -> np.ndarray:
        np.save(folder / f"{name}.npy", column)
        return np.load(folder / f"{name}.npy", mmap_mode="c")

    return replace(
        histories,
        items=mapped("items", histories.items),
        times=mapped("times", histories.times),
        attributes={
            name: mapped(f"attribute-{name}", column)
            for name, column in histories.attributes.items()
        },
    )
