"""A made-up log whose causes are known."""

import numpy as np
import pandas as pd

from attncore.errors import DataError
from attncore.interactions import Interactions


def planted(
    users: int = 1000,
    items: int = 200,
    length: int = 40,
    noise: float = 0.1,
    colours: int = 5,
    seed: int = 0,
) -> Interactions:
    """A made-up log in which the cause of every event is known.

    So attention can be held against the truth. Every item has a colour, and three
    partners: one of its own colour and one of each of the next two round the wheel. The
    last event asks for the colour after its own; the most recent event of the asked
    colour is the cause; the next item is one of the cause's partners, each as likely.
    So a query (the last event) meets keys (the colours of the past) and finds one value
    (the cause); all other events are distractors. With probability `noise`, and while
    the asked colour is not yet in the history, the next item is drawn by popularity
    instead, which drifts with the months.

    Made of integers from a bit generator whose stream numpy guarantees: the same bits
    on every machine.

    Args:
        users: how many.
        items: how many, a multiple of `colours`; ids 1 to `items`.
        length: events a user.
        noise: between 0 and 1.
        colours: how many, 4 to 8.
        seed: another one is another log.

    Returns:
        The log. The event attribute "cause" is the index of the cause in the user's own
        history (0 is the oldest event), or -1 where there is none. Items have "title",
        "colour" and "partners".
    """
    wheel = ("red", "orange", "yellow", "green", "blue", "violet", "brown", "grey")[
        :colours
    ]
    fair = 4 <= colours <= 8 and items >= 2 * colours and items % colours == 0
    if not (fair and users >= 1 and length >= 1 and 0 <= noise <= 1):
        given = (
            f"users={users}, items={items}, length={length}, noise={noise},"
            f" colours={colours}"
        )
        raise DataError(
            f"planted({given}): needs 4 to 8 colours, equally many items of each, noise"
            " 0 to 1"
        )
    bits = np.random.PCG64(seed)

    def draw(below: int, *shape: int) -> np.ndarray:  # integers from 0 to below - 1
        raw = bits.random_raw(int(np.prod(shape))).reshape(shape)
        return ((raw >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(
            np.int64
        )

    colour = np.arange(items) % colours
    partners = np.empty((items, 3), dtype=np.int64)
    for step in range(3):
        for own in range(colours):  # round trips, so that no item is its own partner
            trip = np.argsort(draw(1 << 31, items // colours), kind="stable")
            partners[trip * colours + own, step] = (
                np.roll(trip, -1) * colours + (own + step) % colours
            )

    # From 1 January 2024, over a year.
    start, day, month = 1_704_067_200, 86_400, 30 * 86_400
    times = start + draw(365 * day, users, 1)
    times = times + np.cumsum(60 + draw(day, users, length), axis=1)
    # Zipf's law, in integers.
    popularity = np.cumsum(1_000_000 // np.arange(1, items + 1))
    drawn = draw(int(popularity[-1]), users, length)
    rank = np.searchsorted(popularity, drawn, side="right")
    popular = (rank + (times - start) // month * max(1, items // 12)) % items
    noisy = draw(1 << 31, users, length) < int(noise * (1 << 31))
    choice = draw(3, users, length)

    taken, cause = popular.copy(), np.full((users, length), -1)
    latest = np.full((users, colours), -1)  # where each colour was last seen
    row = np.arange(users)
    for t in range(length):
        if t > 0:
            asked = (colour[taken[:, t - 1]] + 1) % colours
            found = latest[row, asked]
            follows = ~noisy[:, t] & (found >= 0)
            partner = partners[taken[row, found], choice[:, t]]
            taken[:, t] = np.where(follows, partner, popular[:, t])
            cause[:, t] = np.where(follows, found, -1)
        latest[row, colour[taken[:, t]]] = t

    who = np.repeat(np.arange(1, users + 1), length)
    order = np.lexsort((who, times.ravel()))
    columns = {
        "user": who,
        "item": taken.ravel() + 1,
        "time": times.ravel(),
        "cause": cause.ravel(),
    }
    events = pd.DataFrame(columns).iloc[order].reset_index(drop=True)
    names = [wheel[c] for c in colour]
    about = {
        "title": [f"{name} {i}" for i, name in enumerate(names, 1)],
        "colour": names,
        "partners": list(map(tuple, (partners + 1).tolist())),
    }
    table = pd.DataFrame(about, pd.Index(np.arange(1, items + 1), name="item"))
    return Interactions(events, items=table, name="planted", repeats=True)
