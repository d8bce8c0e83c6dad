"""The bookshop of the chapter "Your own log": a made-up log, made by us. `python
book/bookshop.py` writes it anew.

Its customers mostly go on with a series that they have begun, the volumes in order,
several series side by side; else they begin a new one on a shelf that they like, or
take what everybody takes. The files have the faults that real exports have: a till that
writes some purchases twice, guests without a number, a gift bought again, two time
zones.
"""

import csv
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
SHELVES = ("crime", "fantasy", "history", "travel", "science fiction", "romance")
FIRST = (
    "Silent",
    "Glass",
    "Northern",
    "Paper",
    "Winter",
    "Hidden",
    "Copper",
    "Distant",
    "Blue",
    "Salt",
)
SECOND = ("Harbour", "Orchard", "Letters", "Bridge", "Garden")
CUSTOMERS, BEGIN, DAYS = 800, datetime(2023, 1, 2, tzinfo=UTC), 730


def make(seed: int = 17) -> tuple[list[dict], list[dict]]:
    """The rows of the two files: purchases in the order of the till, and books. Only
    `random()` is asked for chance."""
    chance = random.Random(seed)

    def pick(options):
        return options[int(chance.random() * len(options))]

    series = []
    for number, name in enumerate(
        f"The {first} {second}" for second in SECOND for first in FIRST
    ):
        volumes = 1 + int(6 * chance.random() ** 2)
        series.append(
            [
                (name, volume, SHELVES[number % len(SHELVES)])
                for volume in range(1, volumes + 1)
            ]
        )
    books, number_of = [], {}
    for name, volume, shelf in (book for volumes in series for book in volumes):
        number_of[name, volume] = f"B{len(books) + 1:03d}"
        title = name if volume == 1 else f"{name} {volume}"
        shelves = shelf if chance.random() < 0.7 else f"{shelf}|{pick(SHELVES)}"
        pages = "" if chance.random() < 0.05 else 120 + int(500 * chance.random())
        books.append(
            {
                "book": number_of[name, volume],
                "title": title,
                "shelves": shelves,
                "pages": pages,
            }
        )

    purchases = []
    for customer in range(1, CUSTOMERS + 1):
        liked = {pick(SHELVES), pick(SHELVES)}
        day, bought = DAYS * chance.random(), []
        for _ in range(1 + int(28 * chance.random() ** 2)):
            begun = [
                volumes
                for volumes in series
                if volumes[0] in bought and volumes[-1] not in bought
            ]
            fresh = [
                volumes
                for volumes in series
                if volumes[0] not in bought and volumes[0][2] in liked
            ]
            if begun and chance.random() < 0.5:
                volumes = min(
                    begun,
                    key=lambda v: max(
                        bought.index(book) for book in v if book in bought
                    ),
                )
                book = next(book for book in volumes if book not in bought)
            elif bought and chance.random() < 0.04:
                book = pick(bought)  # a gift
            else:
                options = fresh if fresh and chance.random() < 0.6 else series
                book = options[int(len(options) * chance.random() ** 3)][0]
            bought.append(book)
            if day < DAYS:
                zone = timezone(timedelta(hours=pick((0, 0, 1))))
                moment = (BEGIN + timedelta(seconds=int(86400 * day))).astimezone(zone)
                who = "" if chance.random() < 0.01 else f"{customer:04d}"
                price = f"{6 + int(20 * chance.random())}.{pick(('00', '50', '90'))}"
                row = {
                    "customer": who,
                    "book": number_of[book[:2]],
                    "bought_at": moment.isoformat(),
                    "price": price,
                }
                purchases += [(moment, row)] * (2 if chance.random() < 0.01 else 1)
            day += 1 + 90 * chance.random() ** 2
    return [
        row for _, row in sorted(purchases, key=lambda purchase: purchase[0])
    ], books


def write(folder: Path = FOLDER) -> None:
    """Write `bookshop.csv` and `books.csv`."""
    folder.mkdir(exist_ok=True)
    for name, rows in zip(("bookshop.csv", "books.csv"), make(), strict=True):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    write()
