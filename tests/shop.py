"""A made-up shop with slates, small enough to check by hand and regular enough to learn
from."""

import numpy as np
import pandas as pd

import attncore as ac
from attncore.ranking.slates import Slates

DAY, WEEK = 86_400, 7 * 86_400


def shop_log(
    users: int = 30, items: int = 40, weeks: int = 14, seed: int = 0
) -> ac.Interactions:
    """Each user likes one kind of five; each week each of two stores promotes 16 items,
    some on display.

    Of the promoted items a user takes those of the kind that they like, and now and
    then another. Item 999 is promoted throughout and nobody takes it.
    """
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"kind": [f"kind {i % 5}" for i in range(items)] + ["kind 0"]})
    table.index = pd.Index([100 + i for i in range(items)] + [999], name="item")
    promotions, events = [], []
    for week in range(weeks):
        for store in (1, 2):
            offered = rng.choice(items, 16, replace=False)
            for item in offered:
                promotions.append(
                    (100 + item, store, week, "A" if rng.random() < 0.3 else "0")
                )
            promotions.append((999, store, week, "0"))
            for user in range(users):
                if user % 2 != store % 2 or rng.random() < 0.2:
                    continue
                time = week * WEEK + int(rng.integers(WEEK))
                liked = [
                    item
                    for item in offered
                    if item % 5 == user % 5 or rng.random() < 0.03
                ]
                for item in [*liked, int(rng.integers(items))]:
                    events.append(
                        (
                            user,
                            100 + item,
                            time,
                            store,
                            week,
                            float(rng.random() < 0.5) / 2,
                        )
                    )
    frame = pd.DataFrame(
        events, columns=["user", "item", "time", "store", "week", "price_cut"]
    )
    log = ac.Interactions.from_frame(frame, items=table, name="shop", repeats=True)
    shown = pd.DataFrame(promotions, columns=["item", "store", "week", "display"])
    read = {
        "item": ("kind",),
        "user": (),
        "situation": ("display", "store", "price_cut"),
    }
    slates = Slates.from_promotions(
        log.events, shown, ["store", "week"], ["display"], read
    )
    people = pd.DataFrame(
        {"age": ["young" if u % 3 else "old" for u in range(users - 5)]}
    )
    people.index = pd.Index(range(users - 5), name="user")
    return ac.Interactions(
        log.events, people, log.items, "shop", repeats=True, slates=slates
    )
