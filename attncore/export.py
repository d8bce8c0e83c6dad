"""Out of PyTorch.

A run becomes one ONNX file, which onnxruntime runs in Python, C++, Java, JavaScript and
others. What the graph takes, for B histories of T events (both may differ from call to
call; T is at most the model's `length`):

- `items`, int64 (B, T): item indices, oldest first, 0 where padded on the right. Index
  i + 1 is the i-th id of the list "items" in the file's metadata. Of longer histories
  give the newest `length` events; nobody's is all zeros.
- `times`, int64 (B, T), Unix seconds: only of a model with `relative="time"` or
  `recent=True`.
- `users`, int64 (B,): only of a model with user features: the user's place in
  `vocabulary.json` from 0; -1, unknown.
- `event_NAME` (B, T) and `situation_NAME` (B, 1), with an axis more where a feature has
  many values: codes, as `Feature.encode` makes them by what "features" in the metadata
  says; only of a model with such features.

It gives `scores`, float32 (B, V): column j is the item of index j + 1. What a user has
seen is not left out yet. The metadata's entry "attncore" is one JSON object: "version",
"attention", "length", "items", "exclude_seen", "features" and "weights", the SHA-256 of
the weights that were exported.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from attncore.baselines import Baseline
from attncore.batches import Batch
from attncore.config import RankerConfig
from attncore.counts import DECAY, RARE, Memory, Neighbours, as_logits
from attncore.encoders import LSTMAttention
from attncore.errors import DataError, expect_path
from attncore.files import alone, read_whole, replacing
from attncore.layers import evaluating
from attncore.ranking.baselines import SlateBaseline
from attncore.recommender import Recommender
from attncore.runs import described, read_model
from attncore.sequences import Histories
from attncore.serving import Recommendation

BY_MODEL = "the graph shows scores alone; ask the model itself, by ac.load"
FILE = "model.onnx"  # where a run folder keeps its graph


LARGEST = 2**31 - 2**20  # bytes of weights that one ONNX file can hold


CLOSE = 1e-3  # how far the graph's scores may be from the model's


def to_onnx(folder: str | Path, file: str | Path | None = None) -> Path:
    """Write a run as one ONNX file; that of a `Ranker` has no such form.

    The model's own forward pass, traced, with batch and length left open. The graph is
    run once and compared with the model before it gets its name. The module's page says
    what it takes and gives.

    Args:
        folder: a run folder.
        file: where to; None is `model.onnx` in the run folder. What is there is
            replaced when the new one is whole.

    Returns:
        the file.

    Raises:
        DataError: the run cannot be read, it is a ranker's, the model cannot be
            exported, a package is missing, or another process is writing the file's
            folder.
        OSError: the file cannot be written, or the disk is full; what was there is
            unchanged.
    """
    expect_path(folder, "to_onnx", "the path of a run folder")
    folder = Path(folder)
    file = folder / FILE if file is None else Path(file)
    model, weights = read_whole(folder, lambda *run: (read_model(*run), _weights(*run)))
    if isinstance(model, Baseline | SlateBaseline):
        kind = type(model).__name__
        raise DataError(f"{folder}: a {kind} has no ONNX form; serve it with load()")
    _refuse_ranker(folder, model.config)
    assert isinstance(model, Recommender)
    if (size := sum(tensor.nbytes for tensor in model.state_dict().values())) > LARGEST:
        raise DataError(
            f"{folder}: {size / 2**30:.1f} GiB of weights; an ONNX file holds 2, so"
            " serve it with load()"
        )
    about = {
        "version": 1,
        "attention": model.config.attention,
        "length": model.config.length,
        "items": model.split.items.ids.tolist(),
        "exclude_seen": model.split.test.exclude_seen,
        "features": model.features.to_json(),
        "weights": weights,
    }
    batch = _example(model)
    program = _traced(model, batch)
    program.model.metadata_props["attncore"] = json.dumps(about)
    is_run = (file.parent / "config.json").is_file()  # which others may write too
    with alone(file.parent) if is_run else nullcontext():
        try:
            with replacing(file) as fresh:
                program.save(str(fresh), external_data=False)
                _compare(model, batch, fresh)
        except OSError as error:
            why = error.strerror or error
            raise OSError(
                f"{file}: cannot be written ({why}); what was there is unchanged"
            ) from None
    return file


class OnnxRecommender(Recommender):
    """A run that is scored by its ONNX file in onnxruntime.

    `recommend`, `score` and `erasure` are asked as ever, and `with_items` exports anew.
    What looks at weights (`similar_items`, `attention`) needs the model itself: see
    `load`.

    Args:
        folder: a run folder.
        file: its ONNX file; None is `model.onnx` in the run folder.
        threads: of onnxruntime; 0 leaves that to it.

    Raises:
        DataError: the run cannot be read or is a ranker's, the file is missing,
            damaged, or was exported from other weights, or onnxruntime is missing.
    """

    kept: tempfile.TemporaryDirectory[str]  # of one that `with_items` made

    def __init__(
        self, folder: str | Path, file: str | Path | None = None, threads: int = 0
    ) -> None:
        expect_path(folder, "OnnxRecommender", "the path of a run folder")
        folder = Path(folder)
        file = folder / FILE if file is None else Path(file)
        parts: Any
        parts, weights = read_whole(
            folder, lambda *run: (described(*run), _weights(*run))
        )
        _refuse_ranker(folder, parts[0])
        super().__init__(*parts)
        self.session = _session(file, threads)
        try:
            exported = json.loads(
                self.session.get_modelmeta().custom_metadata_map["attncore"]
            )["weights"]
        except (KeyError, ValueError):
            raise DataError(
                f"{file}: was not written by `python -m attncore export`"
            ) from None
        self.folder, self.threads, self.exported = folder, threads, exported
        self._check_weights(file, weights)

    def _check_weights(self, file: Path, weights: str) -> None:
        if self.exported != weights:
            raise DataError(
                f"{file}: was exported from other weights than those in {self.folder};"
                " export again"
            )

    def with_items(self, table: pd.DataFrame) -> OnnxRecommender:
        """As of the run's own model, which is extended and exported, in some seconds.

        Raises:
            DataError: as for `serving.with_items` and `to_onnx`, or the run folder was
                replaced since.
        """
        whole = read_whole(self.folder, lambda *run: (read_model(*run), _weights(*run)))
        model: Any = whole[0]
        self._check_weights(self.folder, whole[1])
        bigger = model.eval().with_items(table)
        place = tempfile.TemporaryDirectory()
        bigger.save(place.name)
        to_onnx(place.name)
        found = type(self)(place.name, threads=self.threads)
        found.kept = place  # the run folder goes when it goes
        return found

    def similar_items(self, items: Any, k: int = 10) -> list[Recommendation]:
        """Refused: the graph shows no vectors."""
        raise DataError(f"{self.folder}: {BY_MODEL}")

    def weights(self, *asked: Any, **how: Any) -> list[Any]:
        """Refused: the graph shows no attention weights."""
        raise DataError(f"{self.folder}: {BY_MODEL}")

    def _build(self) -> None:
        """Nothing: the graph holds the weights."""

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return torch.device("cpu")

    def scorer(self, batch: Batch) -> Callable[[slice | Tensor], Tensor]:
        """As in `Recommender`; the graph scores the whole catalogue at once."""
        inputs = {
            name: tensor.numpy() for name, tensor in graph_inputs(self, batch).items()
        }
        scores_BV = torch.from_numpy(self.session.run(["scores"], inputs)[0])
        return lambda places: scores_BV[:, places]


def _refuse_ranker(folder: Path, config: object) -> None:
    """Raise for a run of a `Ranker`.

    It reads counts as of the moment of asking, which the log gives and a graph cannot.
    """
    if isinstance(config, RankerConfig):
        raise DataError(
            f"{folder}: ranks slates, which has no ONNX form; serve it with load()"
        )


def _weights(folder: Path, config: dict[str, Any]) -> str:
    """Which weights a run folder holds."""
    return str(config["files"]["weights.safetensors"])


def graph_inputs(model: Recommender, batch: Batch) -> dict[str, Tensor]:
    """What the graph of a model takes of a batch, by name."""
    found = {"items": batch.items_BT}
    if model.config.relative == "time" or model.config.recent:
        found["times"] = batch.times_BT
    if model.features.user:
        found["users"] = batch.users_B
    found |= {
        f"event_{one.name}": batch.attributes[one.name] for one in model.features.event
    }
    return found | {
        f"situation_{one.name}": batch.situation[one.name]
        for one in model.features.situation
    }


class _Graph(nn.Module):
    """The scores of a batch as a function of tensors alone."""

    def __init__(self, model: Recommender, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> Tensor:
        """Scores (B, V) of what `graph_inputs` gives."""
        given = dict(zip(self.names, tensors, strict=True))
        items_BT = given["items"]
        lengths_B = (items_BT > 0).sum(1)
        batch = Batch(
            items_BT,
            lengths_B,
            given.get("users", torch.full_like(lengths_B, -1)),
            given.get("times", torch.zeros_like(items_BT)),
            lengths_B[:0],  # only the loss asks which places are real
            attributes={
                name.removeprefix("event_"): x
                for name, x in given.items()
                if name[:6] == "event_"
            },
            situation={
                name.removeprefix("situation_"): x
                for name, x in given.items()
                if name[:10] == "situation_"
            },
        )
        return self.model.scorer(batch)(slice(None))


@cache
def _register_lstm() -> None:
    """Make the operator that stands for an LSTM in a graph, when first needed."""
    arguments = "(Tensor x, Tensor into, Tensor hidden, Tensor bias) -> Tensor"
    torch.library.define("attncore::onnx_lstm", arguments)

    @torch.library.register_fake("attncore::onnx_lstm")
    def _(x_TBD: Tensor, in_14D: Tensor, hidden_14H: Tensor, bias_18: Tensor) -> Tensor:
        return x_TBD.new_empty(x_TBD.shape[0], 1, x_TBD.shape[1], hidden_14H.shape[2])


def _translated_lstm(x_TBD: Any, in_14D: Any, hidden_14H: Any, bias_18: Any) -> Any:
    """The operator by which onnxscript writes `attncore::onnx_lstm`."""
    from onnxscript import opset18

    return opset18.LSTM(
        x_TBD, in_14D, hidden_14H, bias_18, hidden_size=hidden_14H.shape[2]
    )[0]


class _OnnxLSTM(nn.Module):
    """An `nn.LSTM` as ONNX's own operator, to trace and not to run.

    Traced as it is, it would have a fixed length.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.layers = lstm.num_layers
        for number in range(self.layers):
            names = [
                f"{part}_l{number}"
                for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            in_4HD, hidden_4HH, *biases = (
                _regrouped(getattr(lstm, name).detach()) for name in names
            )
            self.register_buffer(f"in_{number}", in_4HD[None])
            self.register_buffer(f"hidden_{number}", hidden_4HH[None])
            self.register_buffer(f"bias_{number}", torch.cat(biases)[None])

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, None]:
        """States after each event, (B, T, H)."""
        x_TBD = x_BTD.transpose(0, 1)
        for number in range(self.layers):
            weights = [
                getattr(self, f"{part}_{number}") for part in ("in", "hidden", "bias")
            ]
            x_TBD = torch.ops.attncore.onnx_lstm(x_TBD, *weights)[:, 0]
        return x_TBD.transpose(0, 1), None


class _OnnxNeighbours(nn.Module):
    """`Neighbours` in a graph, which compares every moment of the log.

    An index has a size that depends on what is asked; a graph wants it fixed.
    """

    past_KP: Tensor
    next_P: Tensor
    weight_KK: Tensor
    rare_V: Tensor

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__()
        self.window, self.items = neighbours.window, neighbours.items
        self.weight = neighbours.weight
        place_P = torch.nonzero(neighbours.left_P > 0)[:, 0]
        back_K = torch.arange(self.window)
        item, left = neighbours.item_P, neighbours.left_P
        past_KP = (place_P - back_K[:, None]).clamp_min(0)
        # Of the same history: there the events that are left fall one by one.
        is_own_KP = left[past_KP] == left[place_P] + back_K[:, None]
        past_KP = torch.where(is_own_KP, item[past_KP], -1)
        self.register_buffer("past_KP", past_KP.int())
        self.register_buffer("next_P", item[place_P + 1])
        farther_KK = torch.maximum(back_K[:, None], back_K)
        self.register_buffer("weight_KK", DECAY ** farther_KK.float())
        rare_V = neighbours.many_V.clamp_min(1).float() ** -RARE
        self.register_buffer("rare_V", rare_V)

    def forward(self, newest_BK: Tensor) -> Tensor:
        """As in `Neighbours`."""
        rare_BK = self.rare_V[newest_BK]
        alike_BP = torch.zeros(len(newest_BK), len(self.next_P))
        for back in range(self.window):
            is_met_BKP = newest_BK[..., None].int() == self.past_KP[back]
            weight_BK = rare_BK * self.weight_KK[back]
            alike_BP = alike_BP + (is_met_BKP * weight_BK[..., None]).sum(1)
        votes_BV = torch.zeros(len(newest_BK), self.items + 1)
        next_BP = self.next_P.expand(len(newest_BK), -1)
        votes_BV = votes_BV.scatter_add(1, next_BP, alike_BP**2)
        return self.weight * as_logits(votes_BV, newest_BK)


class _OnnxMemory(nn.Module):
    """`Memory` in a graph, which has no loop: all questions at once."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, state_BD: Tensor) -> Tensor:
        """As in `Memory`."""
        return self.memory.logits(state_BD)


def _regrouped(gates: Tensor) -> Tensor:
    """From PyTorch's order of gates to ONNX's.

    PyTorch has input, forget, cell, output; ONNX input, output, forget, cell.
    """
    gate_in, forget, cell, out = gates.chunk(4)
    return torch.cat([gate_in, out, forget, cell])


def _example(model: Recommender) -> Batch:
    """Three histories to trace with.

    One of the full length, a shorter one, and an empty one.
    """
    rows = [
        np.arange(min(model.config.length, 6)) % len(model.split.items) + 1,
        np.array([1]),
        np.zeros(0, np.int32),
    ]
    return model.windows(Histories.from_lists(rows)).batch(np.arange(3))


def _traced(model: Recommender, batch: Batch) -> Any:
    """The model's forward pass as an ONNX program."""
    _imported("onnx")
    _imported("onnxscript")
    _register_lstm()
    inputs = graph_inputs(model, batch)
    row, event = {0: torch.export.Dim("batch")}, {}
    if model.config.length > 1:
        event = {1: torch.export.Dim("length", max=model.config.length)}
    of_events = [
        name in ("items", "times") or name.startswith("event_") for name in inputs
    ]
    open_axes = tuple(row | event if each else row for each in of_events)
    traced = evaluating(model)  # its parts are its own: another LSTM can stand there
    try:
        if isinstance(traced.encoder, LSTMAttention):
            lstm: Any = _OnnxLSTM(traced.encoder.lstm)
            traced.encoder.lstm = lstm
        if traced.memory is not None:
            kept: Any = _OnnxMemory(traced.memory)
            traced.memory = kept
        if traced.neighbours is not None:
            sought: Any = _OnnxNeighbours(traced.neighbours)
            traced.neighbours = sought
        with torch.no_grad(), _quiet():
            graph, tensors = _Graph(traced, list(inputs)), tuple(inputs.values())
            # Strict: Dynamo reads len() of a tensor as an open size, where plain
            # tracing takes it for a constant.
            program = torch.export.export(
                graph, tensors, dynamic_shapes=(open_axes,), strict=True
            )
            exported: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(inputs),
                output_names=["scores"],
                custom_translation_table={
                    torch.ops.attncore.onnx_lstm.default: _translated_lstm
                },
                verbose=False,
            )
        _name_axes(exported.model.graph, of_events)
        return exported
    except Exception as error:  # the exporter raises whatever it meets
        what = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"attention={model.config.attention!r}: this model cannot be exported"
            f" ({what})"
        ) from None


def _name_axes(graph: Any, of_events: Sequence[bool]) -> None:
    """Call the open axes of what goes in and comes out by their names.

    The exporter numbers them.
    """
    for value, each in zip(
        (*graph.inputs, *graph.outputs), (*of_events, False), strict=True
    ):
        names = {0: "batch", 1: "length"} if each else {0: "batch"}
        value.shape = type(value.shape)(
            [
                names.get(axis, size) if not isinstance(size, int) else size
                for axis, size in enumerate(value.shape)
            ]
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _compare(model: Recommender, batch: Batch, file: Path) -> None:
    """Raise DataError unless the file gives the model's scores."""
    inputs = {
        name: tensor.numpy() for name, tensor in graph_inputs(model, batch).items()
    }
    with torch.no_grad():
        expected = evaluating(model).scorer(batch)(slice(None)).numpy()
    found = _session(file, 1).run(["scores"], inputs)[0]
    if not np.allclose(found, expected, atol=CLOSE, rtol=CLOSE):
        apart = float(np.abs(found - expected).max())
        raise DataError(
            f"attention={model.config.attention!r}: the graph is off by {apart:.2g};"
            " not written"
        )


def _session(file: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU."""
    runtime = _imported("onnxruntime")
    if not file.is_file():
        raise DataError(
            f"{file}: is missing; write it with `python -m attncore export RUN --to"
            " onnx`"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has no base class of its own
        what = " ".join(str(error).split())[:120]
        raise DataError(
            f"{file}: is damaged or no ONNX file ({what}); export again"
        ) from None


def _imported(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise DataError(
            f"{name} is missing; pip install onnx onnxscript onnxruntime"
        ) from None
