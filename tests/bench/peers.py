"""The rivals that speed.py measures, each run as `python peers.py NAME --log LOG.csv
--started T [--epochs N]`.

The log has the columns user, item, time and part; a peer trains on the rows whose part
is "train", in their order, and recommends 10 unseen items to every user. The last line
on stdout is one JSON object. This file imports nothing of attncore, since RecTools
lives in an environment of its own.

- `rectools`: RecTools' SASRecModel with full softmax, no validation, logger, progress
  bar or checkpoints; everything else is its default: float32, no loader processes,
  which for data this small are slower.
- `rectools-bf16`: the same under Lightning's `precision="bf16-mixed"`.
- `loop`: what one writes by hand: nn.TransformerEncoder in float32, batches of users of
  like length.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

WIDTH, BLOCKS, HEADS, LENGTH, BATCH, DROPOUT, RATE, K = (
    64,
    2,
    2,
    200,
    128,
    0.2,
    1e-3,
    10,
)


def rectools(log: str, epochs: int, started: float, precision: str) -> dict[str, Any]:
    """Train RecTools' SASRec and time it by Lightning's own callbacks."""
    import logging

    import pandas as pd
    import torch
    from pytorch_lightning import Callback, Trainer
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    clock = Clock(started)

    class Timer(Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            clock.epoch_starts()

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            clock.step_ends(int((batch["y"] != 0).sum()))

        def on_train_epoch_end(self, *_: Any) -> None:
            clock.epoch_ends()

    def trainer() -> Trainer:
        quiet = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        # Fmt: skip
        return Trainer(
            max_epochs=epochs,
            min_epochs=epochs,
            precision=precision,
            accelerator="cpu",
            devices=1,
            enable_checkpointing=False,
            callbacks=[Timer()],
            **quiet,
        )

    events = pd.read_csv(log).query("part == 'train'")
    frame = pd.DataFrame(
        {
            Columns.User: events["user"],
            Columns.Item: events["item"],
            Columns.Weight: 1,
            Columns.Datetime: pd.to_datetime(events["time"], unit="s"),
        }
    )
    dataset = Dataset.construct(frame)
    # Fmt: skip
    model = SASRecModel(
        n_factors=WIDTH,
        n_blocks=BLOCKS,
        n_heads=HEADS,
        session_max_len=LENGTH,
        batch_size=BATCH,
        dropout_rate=DROPOUT,
        lr=RATE,
        loss="softmax",
        epochs=epochs,
        get_trainer_func=trainer,
    )
    model.fit(dataset)
    users = frame[Columns.User].unique()
    rank = timed(
        lambda: model.recommend(users=users, dataset=dataset, k=K, filter_viewed=True)
    )
    return clock.result(len(users), rank) | {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def loop(log: str, epochs: int, started: float) -> dict[str, Any]:
    """A plain PyTorch loop: the shortest program that does the same, with length-sorted
    batches."""
    import pandas as pd
    import torch
    from torch import nn

    clock = Clock(started)
    events = pd.read_csv(log).query("part == 'train'")
    codes, items = pd.factorize(events["item"])
    grouped = pd.Series(codes + 1, events.index).groupby(events["user"]).agg(list)
    histories = [torch.tensor(history) for history in grouped]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.item = nn.Embedding(len(items) + 1, WIDTH, padding_idx=0)
            self.place = nn.Embedding(LENGTH, WIDTH)
            layer = nn.TransformerEncoderLayer(
                WIDTH, HEADS, WIDTH, DROPOUT, batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(
                layer, BLOCKS, nn.LayerNorm(WIDTH), enable_nested_tensor=False
            )
            self.dropout = nn.Dropout(DROPOUT)
            nn.init.normal_(self.item.weight, std=0.02)

        def forward(self, items_BT: torch.Tensor) -> torch.Tensor:
            steps = items_BT.shape[1]
            context = self.dropout(self.item(items_BT) + self.place.weight[:steps])
            mask = nn.Transformer.generate_square_subsequent_mask(steps)
            return self.encoder(context, mask=mask, is_causal=True)

    def padded(rows: list[torch.Tensor]) -> torch.Tensor:
        # On the right, so no padding mask is needed.
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    windows = sorted(
        (history[-LENGTH - 1 :] for history in histories if len(history) > 1), key=len
    )
    batches = [
        windows[start : start + BATCH] for start in range(0, len(windows), BATCH)
    ]
    model.train()
    for _ in range(epochs):
        clock.epoch_starts()
        for chosen in torch.randperm(len(batches)).tolist():
            batch = padded(batches[chosen])
            target_BT = batch[:, 1:]
            real_BT = target_BT > 0
            logits_NV = model(batch[:, :-1])[real_BT] @ model.item.weight[1:].T
            loss = nn.functional.cross_entropy(logits_NV, target_BT[real_BT] - 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.step_ends(int(real_BT.sum()))
        clock.epoch_ends()

    @torch.no_grad()
    def rank() -> list[torch.Tensor]:
        best = []
        for start in range(0, len(histories), 256):
            chosen = histories[start : start + 256]
            last = torch.tensor([min(len(history), LENGTH) - 1 for history in chosen])
            states_BTD = model(padded([history[-LENGTH:] for history in chosen]))
            scores_BV = (
                states_BTD[torch.arange(len(chosen)), last] @ model.item.weight.T
            )
            # What was seen; padding is item 0.
            scores_BV.scatter_(1, padded(chosen), -torch.inf)
            scores_BV[:, 0] = -torch.inf
            best.append(scores_BV.topk(K).indices)
        return best

    model.eval()
    return clock.result(len(histories), timed(rank)) | {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


class Clock:
    """Times epochs from inside a training loop, and counts their real positions."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.start_up_s = 0.0
        self.positions: list[int] = []
        self.seconds: list[float] = []

    def epoch_starts(self) -> None:
        self.positions.append(0)
        self.since = time.perf_counter()

    def step_ends(self, positions: int) -> None:
        self.start_up_s = self.start_up_s or time.time() - self.started
        self.positions[-1] += positions

    def epoch_ends(self) -> None:
        self.seconds.append(time.perf_counter() - self.since)

    def result(self, users: int, rank_s: float) -> dict[str, Any]:
        """The figures, named as in `attncore.benchmark.Benchmark`."""
        epochs = [
            count / seconds
            for count, seconds in zip(self.positions, self.seconds, strict=True)
        ]
        # Not getrusage: it also counts the parent's memory at the fork.
        status = Path("/proc/self/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak
        return {
            "positions": self.positions[-1],
            "positions_per_s": statistics.median(epochs[1:]),
            "users": users,
            "users_per_s": users / rank_s,
            "start_up_s": self.start_up_s,
            "memory_mib": int(peak[1]) / 1024,
            "epochs": epochs,
        }


def timed(work: Any) -> float:
    """Median seconds of three calls, after one that warms up."""
    seconds = []
    for _ in range(4):
        since = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - since)
    return statistics.median(seconds[1:])


def main() -> None:
    """Measure one peer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["rectools", "rectools-bf16", "loop"])
    parser.add_argument("--log", required=True)
    parser.add_argument(
        "--started",
        type=float,
        required=True,
        help="time.time() when the process was started",
    )
    parser.add_argument("--epochs", type=int, default=4, help="the first warms up")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"
    if args.name == "loop":
        result = loop(args.log, args.epochs, args.started)
    else:
        precision = "bf16-mixed" if args.name.endswith("bf16") else "32-true"
        result = rectools(args.log, args.epochs, args.started, precision)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
