"""Facts about relative position and time: what `RelativeBias` adds to the scores, and
what a model makes of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import attncore as ac
from attncore.attention import MultiHeadAttention, RelativeBias, attend
from attncore.batches import Windows
from attncore.encoders import SelfAttention
from attncore.sequences import Histories

DAY = 86_400
NOW = 2**31 + 12_345  # beyond int32; float32 there counts in steps of 256 seconds


def numbered(bias):
    """Every bucket's number becomes the bucket's index (times 1000 for time), so a bias
    shows its buckets."""
    with torch.no_grad():
        bias.position_SH[:] = torch.arange(len(bias.position_SH))[:, None]
        if bias.time_SH is not None:
            bias.time_SH[:] = 1000 * torch.arange(len(bias.time_SH))[:, None]
    return bias


def random_bias(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_SH"):
                parameter.normal_(std=2, generator=generator)
    return model


def timed(*rows, attributes=None):
    """Histories of (item, time) pairs."""
    items, times = (
        np.array([pair[i] for row in rows for pair in row], np.int64) for i in (0, 1)
    )
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(
        np.int64
    )
    return Histories(items.astype(np.int32), offsets, times, attributes or {})


def build(split, relative, **changes):
    options = {
        "width": 16,
        "heads": 2,
        "length": 8,
        "dropout": 0.1,
        "relative": relative,
    } | changes
    return ac.Recommender(ac.RecommenderConfig(**options), split, seed=3)


# --- buckets
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        *[
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 3),
            (7, 3),
            (8, 4),
            (59, 6),
            (64, 7),
            (3600, 12),
            (DAY, 17),
        ],
        *[(2**30 - 1, 30), (2**30, 31), (2**31, 31), (2**40, 31), (2**62, 31)],
    ],
)
def test_time_buckets_by_hand_are_exact_at_any_date(seconds, bucket):
    bias = numbered(RelativeBias(1, time_buckets=32))
    for start in (0, NOW, -NOW):
        found = bias(2, torch.tensor([[start, start + seconds]]))[0, 0]
        assert found[1, 0].item() == 1 + 1000 * bucket
        # Nothing lies before its own past.
        assert found[0, 0].item() == found[0, 1].item() == 0


@pytest.mark.parametrize(
    ("buckets", "farthest", "table"),
    [
        (
            8,
            64,
            {
                0: 0,
                1: 1,
                2: 2,
                3: 3,
                4: 4,
                7: 4,
                8: 5,
                15: 5,
                16: 6,
                31: 6,
                32: 7,
                63: 7,
                64: 7,
                299: 7,
            },
        ),
        (
            32,
            128,
            {
                0: 0,
                1: 1,
                15: 15,
                16: 16,
                17: 16,
                18: 17,
                20: 17,
                21: 18,
                45: 24,
                111: 30,
                112: 31,
                299: 31,
            },
        ),
        (2, 5, {0: 0, 1: 1, 299: 1}),
        (3, 5, {0: 0, 1: 1, 2: 2, 299: 2}),
    ],
)
def test_position_buckets_by_hand(buckets, farthest, table):
    bias = numbered(RelativeBias(2, buckets, farthest=farthest))(300)
    assert bias.shape == (1, 2, 300, 300)
    for distance, bucket in table.items():
        assert bias[0, :, 299, 299 - distance].tolist() == [bucket] * 2, distance
    # The future, which the mask hides, is looked up in no wrong place.
    assert (bias[0, 0].diagonal(1) == 0).all()


def test_each_head_has_numbers_of_its_own():
    bias = random_bias(RelativeBias(3, time_buckets=8))
    found = bias(3, torch.tensor([[5, 6, 9]]))
    for head in range(3):
        assert (
            found[0, head, 2, 0].item()
            == (bias.position_SH[2, head] + bias.time_SH[3, head]).item()
        )


def test_seconds_that_float32_cannot_tell_apart_have_buckets_of_their_own():
    times = torch.tensor([[NOW, NOW + 1, NOW + 4]])
    assert len(times.float().unique()) == 1
    found = numbered(RelativeBias(1, time_buckets=32))(3, times)[0, 0]
    assert found[2].tolist() == [2 + 3000, 1 + 2000, 0]


def test_wrong_buckets_and_missing_times_are_refused():
    with pytest.raises(
        ValueError, match="1 buckets up to 128 events: use from 2 to 255"
    ):
        RelativeBias(1, 1)
    with pytest.raises(ValueError, match="use from 2 to 7"):
        RelativeBias(1, 8, farthest=4)
    with pytest.raises(ValueError, match="needs times_BT"):
        RelativeBias(1, time_buckets=4)(3)


# --- in attention
# --------------------------------------------------------------------------------------


def test_a_bias_reaches_weights_and_gradients_alike_on_both_paths():
    attention = MultiHeadAttention(8, 2).double()
    bias = random_bias(RelativeBias(2, time_buckets=32).double())
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    # The last of row 1 is out of order.
    times = NOW + torch.tensor([[0, 0, 5, 90, DAY], [0, 3, 3, 4, 0]])
    gradients = []
    for need_weights in (True, False):
        bias.zero_grad()
        attended, weights = attention(
            x, x, causal=True, bias=bias(5, times), need_weights=need_weights
        )
        attended.square().sum().backward()
        gradients.append(
            (
                attended.detach(),
                bias.position_SH.grad.clone(),
                bias.time_SH.grad.clone(),
            )
        )
        if weights is not None:
            assert (weights.triu(1) == 0).all()
            torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5).double())
    for slow, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(slow, fast)
    assert gradients[0][1].abs().sum() > 0
    assert gradients[0][2].abs().sum() > 0


def test_equal_contents_are_weighed_by_the_bias_alone():
    bias = random_bias(RelativeBias(2, time_buckets=32))
    times = torch.tensor([[NOW, NOW + 60, NOW + DAY]])
    same = torch.ones(1, 2, 3, 4)
    _, weights = attend(same, same, same, causal=True, bias=bias(3, times))
    expected = bias(3, times)[:, :, 2].softmax(-1)
    torch.testing.assert_close(weights[:, :, 2], expected)


@pytest.mark.parametrize("relative", ["position", "time"])
@pytest.mark.parametrize("length", [7, 600])
def test_no_position_sees_the_future_nor_its_times_to_the_bit(relative, length):
    config = ac.RecommenderConfig(width=8, dropout=0.0, relative=relative)
    encoder = random_bias(SelfAttention(config)).eval()
    cut = length // 2
    x, times = torch.randn(2, length, 8), NOW + torch.arange(length).repeat(2, 1) * 977
    other, later = x.clone(), times.clone()
    other[:, cut:] = torch.randn(2, length - cut, 8)
    later[:, cut:] = torch.randint(-(2**40), 2**40, (2, length - cut))
    with torch.no_grad():
        for need_weights in (False, True):
            before, _ = encoder(x, times, need_weights=need_weights)
            after, _ = encoder(other, later, need_weights=need_weights)
            assert torch.equal(before[:, :cut], after[:, :cut])
            assert not torch.equal(before[:, cut:], after[:, cut:])
            assert before.isfinite().all()


# --- in the model
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative", ["position", "time"])
def test_an_untrained_bias_changes_nothing(split, relative):
    plain, biased = build(split, "none"), build(split, relative)
    assert set(biased.state_dict()) - set(plain.state_dict()) == {
        f"encoder.relative.{name}_SH"
        for name in (["position"] if relative == "position" else ["position", "time"])
    }
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, biased.state_dict()[name]), name
    histories = split.test.histories
    torch.testing.assert_close(
        biased.score(histories), plain.score(histories), atol=1e-6, rtol=1e-5
    )


def test_times_change_the_scores_of_a_time_bias_alone(split):
    near = timed([(1, NOW), (2, NOW + 1), (3, NOW + 2)])
    far = timed([(1, NOW), (2, NOW + DAY), (3, NOW + 400 * DAY)])
    for relative in ("none", "position", "time"):
        model = random_bias(build(split, relative, positions="none"))
        same = torch.equal(model.score(near), model.score(far))
        assert same == (relative != "time"), relative
        frames = [model.attention(histories=histories) for histories in (near, far)]
        assert frames[0]["weight"].equals(frames[1]["weight"]) == (relative != "time")
        sums = frames[1].groupby(["layer", "head"])["weight"].sum()
        np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_the_shift_of_all_times_changes_nothing(split):
    model = random_bias(build(split, "time"))
    early = timed([(1, 0), (2, 1), (3, 260)])
    late = timed([(1, NOW), (2, NOW + 1), (3, NOW + 260)])
    assert torch.equal(model.score(early), model.score(late))


@pytest.mark.parametrize("relative", ["position", "time"])
def test_padding_beside_a_longer_history_changes_nothing(split, relative):
    model = random_bias(build(split, relative))
    short, long = (
        [(1, NOW), (2, NOW + 60)],
        [(n % 12 + 1, NOW + n * DAY) for n in range(8)],
    )
    together = model.score(timed(short, long, []))
    torch.testing.assert_close(
        together[0], model.score(timed(short))[0], atol=1e-5, rtol=1e-5
    )
    assert together.isfinite().all()
    windows = Windows(timed(short, long), 8)
    states = model.eval().states(windows.batch(np.array([0, 1])))
    states.sum().backward()
    assert all(
        p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )


def test_a_saved_time_bias_is_loaded_with_its_numbers(split, tmp_path):
    model = random_bias(build(split, "time"))
    model.save(tmp_path / "run")
    back = ac.load(tmp_path / "run")
    assert back.config.relative == "time"
    assert torch.equal(
        back.score(split.test.histories), model.score(split.test.histories)
    )


def test_a_bias_learns_which_event_matters_where_only_order_or_time_can_tell():
    """The answer is the vector two events ago, or the mean of those a minute ago:
    contents are random and tell nothing."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 6, 4, generator=generator)
    # One gap of a minute at a random place.
    gaps = torch.rand(128, 6, generator=generator).argsort(1)
    times = NOW + torch.where(gaps == 0, 60, 0).cumsum(1)
    answers = {
        "position": x[:, 3],
        "time": torch.where((times == NOW)[..., None], x, 0).sum(1),
    }
    answers["time"] = answers["time"] / (times == NOW).sum(1, keepdim=True).clamp_min(1)
    some = (times[:, 0] == NOW) & (times[:, -1] > NOW)
    errors = {}
    for answer, kind in (
        ("position", "none"),
        ("position", "position"),
        ("time", "position"),
        ("time", "time"),
    ):
        torch.manual_seed(0)
        attention = MultiHeadAttention(4, 1)
        bias = RelativeBias(1, time_buckets=32 if kind == "time" else 0)
        optimizer = torch.optim.Adam(
            [*attention.parameters(), *bias.parameters()], lr=0.03
        )
        for _ in range(250):
            optimizer.zero_grad()
            added = None if kind == "none" else bias(6, times)
            attended, _ = attention(x, x, causal=True, bias=added)
            error = (attended[some, 5] - answers[answer][some]).square().mean()
            error.backward()
            optimizer.step()
        errors[answer, kind] = (
            error.item() / answers[answer][some].square().mean().item()
        )
    assert errors["position", "none"] > 0.5, errors
    assert errors["position", "position"] < 0.05
    assert errors["time", "position"] > 0.2
    assert errors["time", "time"] < 0.05


@pytest.mark.parametrize("kind", ["target", "lstm", "mean"])
def test_a_relative_bias_is_for_self_attention_alone(kind):
    with pytest.raises(
        ValueError, match=f"relative='time': needs attention='self', not '{kind}'"
    ):
        ac.RecommenderConfig(attention=kind, relative="time")
    with pytest.raises(
        ValueError, match="relative='far': must be one of none, position, time"
    ):
        ac.RecommenderConfig(relative="far")


# --- erasure
# --------------------------------------------------------------------------------------


def test_an_erased_history_keeps_the_times_and_attributes_of_what_is_left():
    rating = np.array([9, 1, 2, 3])
    histories = timed(
        [(7, 50)], [(1, 10), (2, 20), (3, 40)], attributes={"rating": rating}
    )
    found = histories.erased(1)
    assert [found[row].tolist() for row in range(4)] == [
        [1, 2, 3],
        [2, 3],
        [1, 3],
        [1, 2],
    ]
    assert found.times.tolist() == [10, 20, 40, 20, 40, 10, 40, 10, 20]
    assert found.attributes["rating"].tolist() == [1, 2, 3, 2, 3, 1, 3, 1, 2]
    assert [
        row.tolist() for row in (histories.erased(0)[0], histories.erased(0)[1])
    ] == [[7], []]
    assert len(Histories.from_lists([[]]).erased(0)) == 1


def test_erasure_with_times_equals_a_history_made_by_hand_without_the_event(split):
    model = random_bias(build(split, "time"))
    events = [(1, NOW), (4, NOW + 3), (2, NOW + DAY), (6, NOW + 9 * DAY)]
    frame = model.erasure(histories=timed(events), candidates=[505, 508])
    whole = model.score(timed(events))[0]
    for event in range(4):
        without = model.score(timed(events[:event] + events[event + 1 :]))[0]
        for candidate in (505, 508):
            place = split.items.encode([candidate])[0] - 1
            row = frame[(frame["event"] == event) & (frame["candidate"] == candidate)]
            assert row["drop"].item() == pytest.approx(
                (whole - without)[place].item(), abs=1e-5
            )
    assert (
        frame["item"].tolist()
        == np.repeat(split.items.decode(np.array([1, 4, 2, 6])), 2).tolist()
    )


def test_erasure_watches_the_ten_best_of_the_history_with_its_times(split):
    model = random_bias(build(split, "time"))
    events = timed([(1, NOW), (4, NOW + 3), (2, NOW + 400 * DAY)])
    best = model.recommend(histories=events)[0].items
    assert list(dict.fromkeys(model.erasure(histories=events)["candidate"])) == best
    user = split.users.ids[:1].tolist()
    assert (
        list(dict.fromkeys(model.erasure(users=user)["candidate"]))
        == model.recommend(users=user)[0].items
    )


def test_the_fused_kernel_is_what_a_bias_takes_when_nothing_learns():
    bias = random_bias(RelativeBias(2))(6).detach()
    x = torch.randn(1, 2, 6, 4)
    mask = bias.masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -torch.inf)
    attended, _ = attend(x, x, x, causal=True, bias=bias, need_weights=False)
    torch.testing.assert_close(attended, F.scaled_dot_product_attention(x, x, x, mask))
