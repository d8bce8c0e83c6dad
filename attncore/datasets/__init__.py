"""Where real logs come from: MovieLens, Complete Journey, and one that is planted."""

from attncore.datasets.fetching import (
    DatasetInfo,
    available,
    complete_journey_promotions,
    load,
)
from attncore.datasets.planted import planted

__all__ = [
    "DatasetInfo",
    "available",
    "complete_journey_promotions",
    "load",
    "planted",
]
