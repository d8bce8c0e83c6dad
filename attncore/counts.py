"""What a log says without learning, as logits beside the model's own.

What followed the newest items, counted (`FollowerCounts`); what was popular just then
(`RecentCounts`); and what came next at moments that are like this one, looked up: alike
in their items (`Neighbours`), or in the states that the model makes of them (`Memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attncore.errors import DataError
from attncore.sequences import Histories, Joined

SMALL = 1e-4  # a share much smaller than this makes no difference
DENSE = 2**26  # numbers up to which the counts also lie in one table
DECAY, RARE = 0.75, 0.25
NEAREST, SHARPNESS = 256, 0.05
FADING, BUCKETS = (0.02, 0.1), 2**10
PAUSES = [3600, 86400, 7 * 86400, 30 * 86400]  # an hour, a day, a week, a month
FAST = 10
KEPT = 2**20  # events that are looked up, or few more
AT_ONCE = 2**22  # likenesses that are held at a time
COSINES = 2**25  # those of states


class FollowerCounts(nn.Module):
    """How often each item followed the newest items in training, as logits.

    A Markov chain of several lags inside the model. The item l steps back gives each
    item the share of its events that the item followed l events later. The mean s of
    these shares, weighted by 1/l, adds scale · log(1 + s / .0001) to the item's score:
    0 to what never followed. The scale is learned, the counts are not.

    A position that is trained is among the counts itself. Its own event is left out
    there, else the counts would know the answer and be trusted more than they deserve.

    Args:
        histories: the training part, in item indices.
        items: size V of the catalogue.
        lags: how many S of the newest items are looked up.

    Source: Li et al. 2022 (arXiv 2210.14431) for counts inside the softmax of a learned
    model; Ney et al. 1995 for leaving one out.
    """

    # Of each item and lag: events that were followed, and how many items followed them;
    # row by row which, and how often.
    total_VS: Tensor
    many_VS: Tensor
    after_P: Tensor
    count_P: Tensor
    weight_S: Tensor
    table: Tensor | None  # the counts, (V + 1) * S × V, where that is small

    def __init__(self, histories: Histories, items: int, lags: int) -> None:
        super().__init__()
        self.items, self.lags = items, lags
        names = ("total_VS", "many_VS", "after_P", "count_P")
        for name, array in zip(names, counted(histories, items, lags), strict=True):
            self.register_buffer(name, torch.from_numpy(array))
        weight_S = 1 / torch.arange(1, lags + 1)
        self.register_buffer("weight_S", weight_S / weight_S.sum(), persistent=False)
        self.register_buffer("table", None, persistent=False)
        self.scale = nn.Parameter(torch.tensor(0.3))
        self._tabulate()
        self.register_load_state_dict_post_hook(lambda *_: self._tabulate())

    def _tabulate(self) -> None:
        rows = self.many_VS.numel()
        if rows * self.items > DENSE:
            return
        row_P = torch.arange(rows, device=self.many_VS.device)
        row_P = row_P.repeat_interleave(self.many_VS.flatten())
        self.table = self.weight_S.new_zeros(rows, self.items)
        self.table[row_P, self.after_P] = self.count_P

    def newest(self, items_BT: Tensor) -> Tensor:
        """The newest S items at each event, newest first, (B, T, S); 0 for none."""
        past_BT = F.pad(items_BT, (self.lags - 1, 0))
        return past_BT.unfold(1, self.lags, 1).flip(-1)

    def forward(self, newest_NS: Tensor, target_N: Tensor | None = None) -> Tensor:
        """log(1 + s / .0001) of every item, (N, V) float32, without the scale.

        Args:
            newest_NS: item indices, newest first; 0 for none.
            target_N: what followed in training, so that it is among the counts; None
                where the model is asked.
        """
        lag_S = torch.arange(self.lags, device=newest_NS.device)
        total_NS = self.total_VS[newest_NS, lag_S] - int(target_N is not None)
        weight_NS = self.weight_S / total_NS.clamp_min(1)
        weight_NS = weight_NS.masked_fill(newest_NS == 0, 0)
        if self.table is None:
            share_NV = self._gathered(newest_NS, weight_NS)
        else:
            share_NV = F.embedding_bag(
                newest_NS * self.lags + lag_S,
                self.table,
                per_sample_weights=weight_NS,
                mode="sum",
            )
        if target_N is not None:
            own_N1 = weight_NS.sum(1, keepdim=True)
            share_NV.scatter_add_(1, target_N[:, None] - 1, -own_N1)
        return share_NV.clamp_min_(0).div_(SMALL).log1p_()

    def _gathered(self, newest_NS: Tensor, weight_NS: Tensor) -> Tensor:
        """Weighted shares (N, V), from the rows of the counts."""
        device = newest_NS.device
        lag_S = torch.arange(self.lags, device=device)
        place_M = (newest_NS * self.lags + lag_S).flatten()
        many = self.many_VS.flatten()
        many_M, start_M = many[place_M], (many.cumsum(0) - many)[place_M]
        row_P = torch.arange(len(place_M), device=device).repeat_interleave(many_M)
        first_M = many_M.cumsum(0) - many_M
        at_P = torch.arange(len(row_P), device=device) + (start_M - first_M)[row_P]
        column_P = row_P // self.lags * self.items + self.after_P[at_P]
        part_P = self.count_P[at_P] * weight_NS.flatten()[row_P]
        shares = part_P.new_zeros(len(newest_NS) * self.items)
        return shares.index_add_(0, column_P, part_P).view(-1, self.items)


class RecentCounts(nn.Module):
    """What was popular just before a moment, and how far to trust all else, as logits.

    What a service needs to tell what is popular this week. Events are counted in the
    order of their times, in buckets; a count fades by the events that came after it, to
    1 / e after 2 % of the log's events, and in a second row after 10 %. An item's share
    s of the counts adds scale · log(1 + s / .0001) to its score, once for each row.

    Who comes back after a week is told less by what they took last than who goes on. So
    the length of the pause before an event, in five groups up to a month and more,
    chooses the scales, and a number that every other score is multiplied by. Scales and
    trust are learned, the counts are not.

    A position that is trained sees the buckets before that of its target alone; who
    asks sees all of the training part, as of its end.

    Args:
        histories: the training part, in item indices, with times, in memory.
        items: size V of the catalogue.

    Raises:
        DataError: the histories are on disk.
    """

    begin_W: Tensor  # when each bucket begins
    log_FWV: Tensor  # at F rates of fading, before each bucket and at the end
    pause_G: Tensor

    def __init__(self, histories: Histories, items: int) -> None:
        super().__init__()
        require_in_memory(histories, "recent=True")
        order = np.argsort(histories.times, kind="stable")
        times, item = histories.times[order], histories.items[order] - 1
        many = max(1, min(BUCKETS, DENSE // (2 * len(FADING) * items)))
        begins = times[np.arange(many) * len(times) // many] if len(times) else times
        begins = np.unique(begins)
        bucket = np.searchsorted(begins, times, side="right") - 1
        counts = np.zeros((len(begins), items), np.float32)
        np.add.at(counts, (bucket, item), 1)
        log = np.zeros((len(FADING), len(begins) + 1, items), np.float32)
        for faded, rate in zip(log, FADING, strict=True):
            for number, count in enumerate(counts):
                left = np.exp(-count.sum() / max(rate * len(times), 1))
                faded[number + 1] = faded[number] * left + count
            faded /= np.maximum(faded.sum(1, keepdims=True), 1)
            np.log1p(faded / SMALL, out=faded)
        self.end = int(times[-1]) if len(times) else 0
        self.register_buffer("begin_W", torch.from_numpy(begins), persistent=False)
        self.register_buffer("log_FWV", torch.from_numpy(log), persistent=False)
        self.register_buffer("pause_G", torch.tensor(PAUSES), persistent=False)
        groups = len(PAUSES) + 1
        # Kept as a part, so that a step of the optimizer moves them farther: few events
        # follow a long pause.
        self.scale_part_FG = nn.Parameter(torch.full((len(FADING), groups), 0.1 / FAST))
        self.trust_part_G = nn.Parameter(torch.full((groups,), 1 / FAST))

    @property
    def scale_FG(self) -> Tensor:
        """What the logits of each rate are multiplied by after each kind of pause."""
        return FAST * self.scale_part_FG

    @property
    def trust_G(self) -> Tensor:
        """What other scores are multiplied by after each kind of pause."""
        return FAST * self.trust_part_G

    def before(self, time_N: Tensor) -> Tensor:
        """The row of `log_FWV` that was known at each time."""
        found_N = torch.searchsorted(self.begin_W, time_N, right=True) - 1
        return found_N.clamp_min(0)

    def group(self, pause_N: Tensor) -> Tensor:
        """Which kind each pause is, in seconds."""
        return (pause_N[:, None] >= self.pause_G).sum(1)

    def forward(self, newest_B: Tensor) -> tuple[Tensor, Tensor]:
        """As training ends: the trust (B, 1), and what is added to scores, (B, V).

        Args:
            newest_B: when the newest event of each history was, in Unix seconds; 0 for
                none.
        """
        group_B = self.group(self.end - newest_B)
        logits_BV = self.scale_FG[:, group_B].T @ self.log_FWV[:, -1]
        return self.trust_G[group_B, None], logits_BV


@dataclass(frozen=True)
class Prior:
    """What counts add to a batch's scores, for a loss that works on a few at once.

    Attributes:
        scale: what the logits are multiplied by, learned: one number, (), or one for
            each position, (N, 1).
        logits: gives those of some of the positions, (n, V).
    """

    scale: Tensor
    logits: Callable[[slice], Tensor]


def counted(
    histories: Histories, items: int, lags: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What followed each item how often, at each lag: what `FollowerCounts` holds."""
    item = histories.items
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    keys = []
    for lag in range(1, lags + 1):
        within = user[:-lag] == user[lag:]
        first, after = item[:-lag][within].astype(np.int64), item[lag:][within]
        keys.append((first * lags + lag - 1) * items + after - 1)
    key, count = np.unique(np.concatenate(keys), return_counts=True)
    row, rows = key // items, (items + 1) * lags
    return (
        np.bincount(row, count, rows).astype(np.float32).reshape(-1, lags),
        np.bincount(row, minlength=rows).reshape(-1, lags),
        key % items,
        count.astype(np.float32),
    )


class Neighbours(nn.Module):
    """What came next at alike moments of the training histories, as logits.

    Two moments are alike as far as their newest items agree: an item that stands a
    places back in one and b places back in the other adds .75^max(a, b) / n^.25, where
    n is how often it was taken. Each moment of the log votes for what came next with
    the square of its likeness, so that one that agrees in two items outweighs two that
    agree in one. An item's share s of the votes adds weight · log(1 + s / .0001) to its
    score. Nothing is learned, and training does not know of it. The newest items get
    no votes: who asks may be in the log. Of a log of more than a million events every
    second history is kept, or every third, and so on, so that an answer takes a few
    milliseconds at most.

    It is attention whose keys are all moments of all histories, and whose weights are
    counted.

    Args:
        histories: the training part, in item indices, in memory.
        items: size V of the catalogue.
        window: how many K of the newest items are compared.
        weight: what the log of a share counts beside the model's logits.

    Raises:
        DataError: the histories are on disk.

    Source: Jannach and Ludewig 2017, Ludewig and Jannach 2018 (sessions' neighbours);
    Khandelwal et al. 2020 (kNN-LM) for looking the training data up beside a model.
    """

    item_P: Tensor
    left_P: Tensor
    sorted_P: Tensor
    start_V: Tensor
    many_V: Tensor

    def __init__(
        self, histories: Histories, items: int, window: int, weight: float
    ) -> None:
        super().__init__()
        self.items, self.window, self.weight = items, window, weight
        histories = histories.take(some_of(histories, KEPT, f"neighbours={window}"))
        item, events = histories.items.astype(np.int64), len(histories.items)
        ends = np.repeat(histories.offsets[1:], histories.lengths)
        many = np.bincount(item, minlength=items + 1)
        index = {
            "item_P": item,  # of each event
            "left_P": ends - 1 - np.arange(events),  # events after it in its history
            "sorted_P": np.argsort(item, kind="stable"),  # events, by item
            "start_V": many.cumsum() - many,  # where an item's begin there
            "many_V": many,
        }
        for name, array in index.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, newest_BK: Tensor) -> Tensor:
        """Weight · log(1 + s / .0001) of every item, (B, V) float32.

        Args:
            newest_BK: item indices, newest first; 0 for none.
        """
        at_once = max(1, AT_ONCE // max(len(self.item_P), 1))
        votes_BV = torch.cat([self._votes(part) for part in newest_BK.split(at_once)])
        return self.weight * as_logits(votes_BV, newest_BK)

    def _votes(self, newest_BK: Tensor) -> Tensor:
        """Votes for items 0..V, (B, V + 1)."""
        device, rows, events = newest_BK.device, len(newest_BK), len(self.item_P)
        asked_M = newest_BK.flatten()
        many_M = self.many_V[asked_M]
        from_E = torch.arange(len(asked_M), device=device).repeat_interleave(many_M)
        shift_M = self.start_V[asked_M] - (many_M.cumsum(0) - many_M)
        number_E = torch.arange(len(from_E), device=device)
        met_E = self.sorted_P[number_E + shift_M[from_E]]
        # Where an item is met, it stands b places back at the b-th event from there.
        back_b = torch.arange(self.window, device=device)
        E_at, b_at = torch.nonzero(back_b < self.left_P[met_E][:, None], as_tuple=True)
        from_F, place_F = from_E[E_at], met_E[E_at] + b_at
        farther_F = torch.maximum(from_F % self.window, b_at)
        rare_F = self.many_V[asked_M[from_F]].float() ** -RARE
        alike_F = DECAY ** farther_F.float() * rare_F
        row_F = from_F // self.window
        moment_F = row_F * events + place_F
        alike = alike_F.new_zeros(rows * events).index_add_(0, moment_F, alike_F)
        # The squares of the sums, taken apart into what each of their terms adds.
        votes = alike_F.new_zeros(rows * (self.items + 1))
        next_F = row_F * (self.items + 1) + self.item_P[place_F + 1]
        votes.index_add_(0, next_F, alike_F * alike[moment_F])
        return votes.view(rows, -1)


class Memory(nn.Module):
    """What came next where the model was in a state like this one, as logits.

    The states of the training histories are kept, each with the item that came next.
    The 256 whose directions are nearest to that of the state that asks vote for theirs,
    by a softmax over their cosines / .05, less the least of these shares: so it makes
    no jump which state is just near enough. An item's share s of the votes adds
    weight · log(1 + s / .0001) to its score. `Neighbours` compares items, this compares
    what the model has made of them, so it finds likeness that no shared item shows.

    It is attention once more: the state asks, the keys are all states of the log, the
    values are the items that followed.

    Nothing is added before `keep` was called. Of a log of more than a million events
    every second history is kept, or every third, and so on: an answer looks at all that
    is kept, half a gigabyte of it where a million states are 128 numbers each.

    Args:
        histories: the training part, in item indices, in memory.
        items: size V of the catalogue.
        weight: what the log of a share counts beside the model's logits.

    Raises:
        DataError: the histories are on disk.

    Source: Khandelwal et al. 2020 (kNN-LM).
    """

    key_PD: Tensor
    next_P: Tensor

    def __init__(self, histories: Histories, items: int, weight: float) -> None:
        super().__init__()
        self.items, self.weight = items, weight
        self.rows = some_of(histories, KEPT, f"memory_weight={weight}")
        self.register_buffer("key_PD", torch.zeros(0, 1), persistent=False)
        self.register_buffer("next_P", torch.zeros(0).long(), persistent=False)

    def keep(self, states: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take states (N, D) with the items (N,) that came next; none forgets all."""
        found = [(F.normalize(x_ND, dim=-1), next_N) for x_ND, next_N in states]
        nothing = self.key_PD.new_zeros(0, 1), self.next_P[:0]
        keys, follow = zip(*found, strict=True) if found else zip(nothing, strict=True)
        self.key_PD, self.next_P = torch.cat(keys), torch.cat(follow)

    def forward(self, state_BD: Tensor) -> Tensor:
        """Weight · log(1 + s / .0001) of every item, (B, V) float32."""
        if len(self.key_PD) == 0:
            return state_BD.new_zeros(len(state_BD), self.items)
        at_once = max(1, COSINES // len(self.key_PD))
        return torch.cat([self.logits(part) for part in state_BD.split(at_once)])

    def logits(self, state_BD: Tensor) -> Tensor:
        """As `forward`, all at once, where there is something to remember."""
        cosine_BP = F.normalize(state_BD, dim=-1) @ self.key_PD.T
        cosine_BN, place_BN = cosine_BP.topk(min(NEAREST, len(self.key_PD)))
        share_BN = (cosine_BN / SHARPNESS).softmax(-1)
        share_BN = share_BN - share_BN[:, -1:]  # topk sorts
        share_BV = share_BN.new_zeros(len(share_BN), self.items)
        share_BV = share_BV.scatter_add(1, self.next_P[place_BN] - 1, share_BN)
        return self.weight * (share_BV / SMALL).log1p()


def require_in_memory(histories: Histories, option: str) -> None:
    """Raise DataError where the histories that an option looks up are on disk."""
    if isinstance(histories.items, np.memmap | Joined):
        raise DataError(
            f"{option}: looks histories up in memory, and a prepared log is on disk;"
            " leave it out"
        )


def some_of(histories: Histories, events: int, option: str) -> np.ndarray:
    """Rows of histories, evenly spread, that have about so many events, or all.

    Raises:
        DataError: the histories are on disk.
    """
    require_in_memory(histories, option)
    return np.arange(0, len(histories), max(1, -(-len(histories.items) // events)))


def as_logits(votes_BV: Tensor, newest_BK: Tensor) -> Tensor:
    """log(1 + s / .0001), (B, V), of votes for items 0..V but for the newest items."""
    votes_BV = votes_BV.scatter(1, newest_BK, 0)[:, 1:]
    share_BV = votes_BV / votes_BV.sum(1, keepdim=True).clamp_min(1e-12)
    return (share_BV / SMALL).log1p()


def newest_at(items_BT: Tensor, place_B: Tensor, count: int) -> Tensor:
    """The newest items at one place of each row, newest first, (B, count).

    0 where there is none, as at place -1.
    """
    at_BK = place_B[:, None] - torch.arange(count, device=items_BT.device)
    return items_BT.gather(1, at_BK.clamp_min(0)).masked_fill(at_BK < 0, 0)
