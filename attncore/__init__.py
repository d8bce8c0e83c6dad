"""attncore: attention for recommender systems, small to read and real to use.

Letters at the end of a tensor's name are its axes:

    B batch       T history positions   L queries      K context length   D width
    H heads       E width of one head   V catalogue    S buckets of distance or time
    M negatives   N candidates, or positions in a row
    P moments asked about in a history

So `weights_BHLK` holds, for each history and head, a row of K attention weights for
each of L queries. A digit is an axis of that length.
"""

from attncore import baselines, datasets, export
from attncore.config import RankerConfig, RecommenderConfig, TrainingConfig
from attncore.errors import DataError
from attncore.evaluation import Report, compare, evaluate, list_metrics, segments
from attncore.interactions import Interactions, read_interactions
from attncore.large.prepared import Prepared
from attncore.large.preparing import prepare
from attncore.ranking.ranker import Ranker
from attncore.ranking.slates import Slates
from attncore.recommender import Recommender
from attncore.renewal import go_on, refit
from attncore.runs import load
from attncore.serving import Recommendation
from attncore.splits import (
    Split,
    leave_one_out,
    presplit,
    split_by_session,
    split_by_time,
    split_by_user,
)
from attncore.training import Run, fit

__all__ = [
    "DataError",
    "Interactions",
    "Prepared",
    "Ranker",
    "RankerConfig",
    "Recommendation",
    "Recommender",
    "RecommenderConfig",
    "Report",
    "Run",
    "Slates",
    "Split",
    "TrainingConfig",
    "baselines",
    "compare",
    "datasets",
    "evaluate",
    "export",
    "fit",
    "go_on",
    "leave_one_out",
    "list_metrics",
    "load",
    "prepare",
    "presplit",
    "read_interactions",
    "refit",
    "segments",
    "split_by_session",
    "split_by_time",
    "split_by_user",
]


__version__ = "0.1.0"
