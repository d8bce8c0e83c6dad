"""A recommender in one file, in plain PyTorch. Part II writes it piece by piece.

    python minirec.py log.csv

reads a log with the columns user, item and time, learns, and says how good it is.
"""

import math
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

# --- Chapter 6, data: from a log to histories, questions and tables of numbers


def read(log: pd.DataFrame) -> tuple[list[np.ndarray], list]:
    """The history of each user, oldest first, as item numbers from 1; and the items."""
    codes, items = pd.factorize(log["item"], sort=True)
    rows = log.assign(item=codes + 1).sort_values(["user", "time"], kind="stable")
    return [part.to_numpy(copy=True) for _, part in rows.groupby("user")["item"]], list(
        items
    )


def table(rows: list[np.ndarray]) -> Tensor:
    """Rows of different lengths side by side, filled up with 0 on the right, (B, T)."""
    tensors = [torch.from_numpy(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True)


def batches(
    histories: list[np.ndarray], length: int, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: the newest windows in random order, as inputs and targets (B, T)."""
    for users in torch.randperm(len(histories)).split(size):
        windows = table([histories[user][-length - 1 :] for user in users.tolist()])
        yield windows[:, :-1], windows[:, 1:]


# --- Chapter 7, embedding: from numbers to context vectors


class Embedding(nn.Module):
    """An event's context vector: the vector of its item plus that of its place."""

    def __init__(self, items: int, length: int, width: int) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, width, padding_idx=0)
        self.place = nn.Embedding(length, width)
        for part in (self.item, self.place):
            nn.init.normal_(part.weight, std=0.02)
        with torch.no_grad():
            self.item.weight[0] = 0

    def forward(self, items: Tensor) -> Tensor:
        context = self.item(items) + self.place.weight[: items.shape[1]]
        return context * (items > 0)[..., None]


# --- Chapter 8, attention: every event asks its own past


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.join = (
            nn.Linear(width, width) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, E)
            for linear in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(ahead, -torch.inf).softmax(-1)  # (B, H, T, T)
        return self.join((weights @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_network = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
        )
        self.attention = Attention(width, heads)
        self.network = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x)))
        return x + self.dropout(self.network(self.norm_network(x)))


# --- Chapter 9, output: a score for every item, and the loss


class MiniRec(nn.Module):
    def __init__(
        self, items: int, length: int = 200, width: int = 64, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.length = length
        self.embedding = Embedding(items, length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, 2, dropout) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(items + 1))

    def forward(self, items: Tensor) -> Tensor:
        """The state after each event, (B, T, D)."""
        return self.norm(self.blocks(self.dropout(self.embedding(items))))

    def scores(self, state: Tensor) -> Tensor:
        """How well each item fits, (…, items): the item's vector times the state."""
        return state @ self.embedding.item.weight[1:].T + self.bias[1:]

    def loss(self, items: Tensor, targets: Tensor) -> Tensor:
        """Minus the log of the share that the right item gets, where one is asked."""
        asked = targets > 0
        scores = self.scores(self(items)[asked])
        return nn.functional.cross_entropy(scores, targets[asked] - 1)


# --- Chapter 10, training


def optimizer_of(model: nn.Module, lr: float = 1e-3) -> torch.optim.AdamW:
    """AdamW that pulls only the matrices of linear maps towards 0."""
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.01)


def train(
    model: MiniRec, histories: list[np.ndarray], epochs: int, size: int = 128
) -> Iterator[float]:
    """Learn from histories; after each epoch, its mean loss."""
    optimizer = optimizer_of(model)
    steps = epochs * math.ceil(len(histories) / size)
    fade = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    for _ in range(epochs):
        model.train()
        losses = []
        for items, targets in batches(histories, model.length, size):
            loss = model.loss(items, targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            fade.step()
            losses.append(loss.item())
        yield sum(losses) / len(losses)


# --- Chapter 11, evaluation: where does the item that came next stand among all?


@torch.no_grad()
def evaluate(model: MiniRec, known: list[np.ndarray], answers: list[int]) -> np.ndarray:
    """NDCG@10 of each question; items of the whole history are no candidates."""
    model.eval()
    found = []
    for history, answer in zip(known, answers, strict=True):
        window = torch.from_numpy(history[-model.length :])[None]
        scores = model.scores(model(window)[0, -1])
        scores[torch.from_numpy(history) - 1] = -torch.inf
        above = int((scores > scores[answer - 1]).sum())
        found.append(1 / math.log2(above + 2) if above < 10 else 0.0)
    return np.array(found)


def main(path: str) -> None:
    torch.manual_seed(0)
    histories, items = read(pd.read_csv(path))
    histories = [history for history in histories if len(history) > 2]
    model = MiniRec(len(items))
    learned = [history[:-2] for history in histories]
    answers = [int(history[-2]) for history in histories]  # the last ones are for test
    for epoch, loss in enumerate(train(model, learned, epochs=50), 1):
        figure = evaluate(model, learned, answers).mean()
        print(f"epoch {epoch:>2}: loss {loss:.3f}, validation NDCG@10 {figure:.4f}")


if __name__ == "__main__":
    main(sys.argv[1])
