"""The request show: the made-up log of Part I, whose rule a person can see.

A radio host plays five records, one of each genre. Then the phone rings: "more like
the jazz one, please!" The host plays another record that the same band made in the same
decade. So the call decides which of the five records matters: it is found by its
genre, and what it has to say is its band and its decade.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attncore.evaluation import rank_metrics, ranks

BANDS = (
    *("Copper", "Velvet", "Willow", "Comet", "Harbor"),
    *("Lantern", "Saffron", "Thunder", "Orchid", "Pilot"),
)
DECADES = ("60s", "70s", "80s", "90s")
GENRES = ("jazz", "soul", "rock", "folk", "disco")
RECORDS = [
    f"{band} {genre} {decade}"
    for band in BANDS
    for decade in DECADES
    for genre in GENRES
]
SILENCE = len(RECORDS)  # fills up the shows that had fewer records before the call


@dataclass(frozen=True)
class Shows:
    """N shows, as numbers.

    Attributes:
        played: numbers of the records before the call, (N, 5); `SILENCE` where a show
            had fewer.
        call: the number of the genre that is asked for, (N,); of two genres, (N, 2).
        answer: the record that the host played then, (N,).
        cause: where in `played` the record stands that was meant, (N,) or (N, 2).
    """

    played: Tensor
    call: Tensor
    answer: Tensor
    cause: Tensor

    def __len__(self) -> int:
        return len(self.answer)

    def log(self) -> pd.DataFrame:
        """The shows as the station writes them down: a row for each record."""
        rows = [
            (show, 10 * show + minute, RECORDS[record], "")
            for show, records in enumerate(self.played.tolist())
            for minute, record in enumerate(records)
            if record != SILENCE
        ]
        rows += [
            (show, 10 * show + 6, RECORDS[record], GENRES[call])
            for show, (record, call) in enumerate(
                zip(self.answer.tolist(), self.call.tolist(), strict=True)
            )
        ]
        table = pd.DataFrame(rows, columns=["show", "minute", "record", "call"])
        return table.sort_values("minute", ignore_index=True)


def shows(
    number: int,
    seed: int = 0,
    *,
    two: bool = False,
    fewest: int = 5,
    noise: float = 0.1,
) -> Shows:
    """Make shows.

    Args:
        number: how many.
        seed: another one gives other shows.
        two: the caller names two records, "the band of the jazz one, the decade of the
            soul one", instead of one.
        fewest: the records before the call are `fewest` to 5.
        noise: how often the host plays any record at all instead.

    Made of integers from a bit generator whose stream numpy guarantees: the same shows
    on every machine.
    """
    bits = np.random.PCG64(seed)

    def draw(below: int, *shape: int) -> np.ndarray:  # integers from 0 to below - 1
        raw = bits.random_raw(int(np.prod(shape))).reshape(shape) >> np.uint64(32)
        return (raw * np.uint64(below) >> np.uint64(32)).astype(np.int64)

    def record(band: np.ndarray, decade: np.ndarray, genre: np.ndarray) -> np.ndarray:
        return (band * len(DECADES) + decade) * len(GENRES) + genre

    count, row = len(GENRES), np.arange(number)
    genre = np.argsort(draw(1 << 31, number, count), axis=1, kind="stable")
    band = draw(len(BANDS), number, count)
    decade = draw(len(DECADES), number, count)
    played = fewest + draw(count - fewest + 1, number)

    meant = draw(1 << 31, number) % played  # a record that was played
    other = (meant + 1 + draw(1 << 31, number) % np.maximum(played - 1, 1)) % played
    cause = np.stack([meant, other], axis=1)
    calls = np.take_along_axis(genre, cause, axis=1)
    also = (calls[:, 0] + 1 + draw(count - 1, number)) % count  # never the same record
    answer = record(band[row, meant], decade[row, other if two else meant], also)
    anything = draw(1 << 31, number) < int(noise * (1 << 31))
    answer = np.where(anything, draw(len(RECORDS), number), answer)

    records = record(band, decade, genre)
    records[np.arange(count) >= played[:, None]] = SILENCE
    if not two:
        calls, cause = calls[:, 0], cause[:, 0]
    return Shows(*map(torch.from_numpy, (records, calls, answer, cause)))


def score(scores: Tensor, shows: Shows) -> np.ndarray:
    """NDCG@10 of each show, (N,), from scores (N, 200); what was played is no candidate
    any more, and a tie is worth what luck would give."""
    played = torch.zeros(len(shows), len(RECORDS) + 1, dtype=torch.bool)
    played.scatter_(1, shows.played, True)
    above, tied = ranks(scores, shows.answer + 1, played[:, : len(RECORDS)])
    return rank_metrics(above.numpy(), tied.numpy(), k=10)["ndcg@10"]
