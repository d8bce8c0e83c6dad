"""The request show follows the rule that the book tells, and is the same everywhere."""

import pytest
import radio
import torch
from hypothesis import given
from hypothesis import strategies as st


def parts(records):
    """Band, decade and genre of records, as numbers."""
    return records // 20, records // 5 % 4, records % 5


def test_the_names_of_records_say_their_parts():
    assert len(set(radio.RECORDS)) == 200 == radio.SILENCE
    for number in (0, 7, 123, 199):
        band, decade, genre = parts(number)
        words = (radio.BANDS[band], radio.GENRES[genre], radio.DECADES[decade])
        assert radio.RECORDS[number] == " ".join(words)


@given(seed=st.integers(0, 1000), fewest=st.integers(2, 5))
def test_without_noise_every_answer_follows_the_rule(seed, fewest):
    shows = radio.shows(50, seed, fewest=fewest, noise=0.0)
    row = torch.arange(50)
    meant = shows.played[row, shows.cause]
    assert (meant < radio.SILENCE).all()
    for asked, said, same in zip(
        parts(meant), parts(shows.answer), (True, True, False), strict=True
    ):
        assert ((asked == said) == same).all()
    assert (parts(meant)[2] == shows.call).all()
    silent = shows.played == radio.SILENCE
    assert ((~silent).sum(1) >= fewest).all()
    assert (silent.int().diff(dim=1) >= 0).all()  # silence comes last


@given(seed=st.integers(0, 1000))
def test_a_call_in_two_parts_takes_the_band_of_one_and_the_decade_of_the_other(seed):
    shows = radio.shows(50, seed, two=True, fewest=3, noise=0.0)
    first, second = shows.played.gather(1, shows.cause).T
    assert (parts(shows.answer)[0] == parts(first)[0]).all()
    assert (parts(shows.answer)[1] == parts(second)[1]).all()
    assert (shows.call[:, 0] == parts(first)[2]).all()
    assert (shows.call[:, 1] == parts(second)[2]).all()
    assert (first != second).all()


def test_every_show_has_each_genre_once_and_noise_is_as_often_as_it_says():
    shows = radio.shows(4000, seed=1)
    genres = (shows.played % 5).sort(1).values
    assert (genres == torch.arange(5)).all()
    meant = shows.played[torch.arange(4000), shows.cause]
    off = (shows.answer // 5 != meant // 5).float().mean()
    assert 0.08 < off < 0.12


def test_the_same_seed_gives_the_same_shows_on_every_machine():
    shows = radio.shows(2, seed=1)
    assert shows.played.tolist() == [[157, 109, 65, 158, 76], [94, 32, 85, 43, 56]]
    assert shows.answer.tolist() == [77, 170]


def test_the_log_has_a_row_for_each_record_in_the_order_of_time():
    shows = radio.shows(3, seed=0, fewest=3)
    log = shows.log()
    assert log["minute"].is_monotonic_increasing
    assert len(log) == int((shows.played != radio.SILENCE).sum()) + 3
    assert log.groupby("show")["record"].last().tolist() == [
        radio.RECORDS[record] for record in shows.answer.tolist()
    ]
    calls = log.groupby("show")["call"].last().tolist()
    assert calls == [radio.GENRES[call] for call in shows.call.tolist()]


def test_the_score_is_what_the_page_says():
    shows = radio.shows(20, seed=0)
    best = torch.nn.functional.one_hot(shows.answer, 200).float()
    played = best.scatter(1, shows.played, 2.0)  # loud, but no candidates
    again = (shows.played == shows.answer[:, None]).any(1)
    assert radio.score(played, shows)[~again.numpy()] == pytest.approx(1.0)
    alike = radio.score(torch.zeros(20, 200), shows)
    chance = sum(1 / torch.log2(torch.tensor(rank + 1.0)) for rank in range(1, 11))
    assert alike[~again.numpy()] == pytest.approx(float(chance) / 195, rel=1e-5)
