"""A run as an ONNX file: the same answers from onnxruntime, for any batch and length,
and nothing half-written."""

import json
import shutil

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from conftest import rhythm_log
from faults import small_disk
from shop import shop_log

import attncore as ac
from attncore import export
from attncore.__main__ import main
from attncore.sequences import Histories

MODELS = {  # between them they hold every choice that the graph depends on
    "self": {
        "relative": "time",
        "combine": "whole",
        "positions": "newest",
        "gated": True,
        "transition": 3,
        "prior": 2,
        "neighbours": 3,
        "memory_weight": 0.5,
        "recent": True,
        "temperature": 0.1,
    },
    "target": {"score": "additive", "combine": "pooled"},
    "mean": {"combine": "pooled", "item_bias": False},
    "lstm": {"hidden": 5},
    "self, features": {
        "item_features": ("genre", "title"),
        "user_features": ("age",),
        "event_features": ("rating:category",),
        "situation_features": ("place",),
    },
}


@pytest.fixture(scope="module")
def split():
    log = rhythm_log()
    events = log.events.assign(
        rating=log.events["item"] % 5,
        place=np.where(log.events["time"] % 2, "shop", "home"),
    )
    items = pd.DataFrame(
        {"item": range(500, 512), "genre": [("a",), ("b", "c")] * 6, "title": "A film"}
    )
    users = pd.DataFrame({"user": range(100, 140), "age": np.arange(40.0)})
    return ac.leave_one_out(
        ac.Interactions.from_frame(events, items=items, users=users, name="rhythm")
    )


def saved(folder, split, kind="self", **options):
    model = ac.Recommender(
        ac.RecommenderConfig(attention=kind, width=16, length=8, **options),
        split,
        seed=3,
    )
    with torch.no_grad():
        # Nothing stays 0, so that everything matters.
        for parameter in model.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
                / 5
            )
        model.item.id.weight[0] = 0
    model.save(folder)
    return model.eval()


@pytest.fixture(scope="module", params=list(MODELS))
def both(request, split, tmp_path_factory):
    """A model and its exported form."""
    folder = tmp_path_factory.mktemp("run")
    model = saved(folder, split, request.param.split(",")[0], **MODELS[request.param])
    assert export.to_onnx(folder) == folder / "model.onnx"
    return model, export.OnnxRecommender(folder)


def test_onnxruntime_gives_the_same_top_k_for_every_batch_and_length(both):
    model, onnx = both
    users = model.split.users.ids.tolist()
    for size in (1, 7, 40):
        for a, b in zip(
            onnx.recommend(users=users[:size], k=5),
            model.recommend(users=users[:size], k=5),
            strict=True,
        ):
            assert a.items == b.items
            assert a.scores == pytest.approx(b.scores, abs=1e-4)
    for length in (0, 1, 2, 8, 9):
        history = [[500 + (3 * step) % 12 for step in range(length)]]
        a, b = (
            one.recommend(histories=history, k=12, exclude_seen=False)[0]
            for one in (onnx, model)
        )
        assert a.items == b.items
        assert a.scores == pytest.approx(b.scores, abs=1e-4)


def test_the_exported_model_is_asked_and_evaluated_like_the_other(both):
    model, onnx = both
    for options in (
        {"only": [501, 502, 503]},
        {"exclude": [501, 502]},
        {"candidates": [504, 509]},
    ):
        assert (
            onnx.recommend(users=[100], **options)[0].items
            == model.recommend(users=[100], **options)[0].items
        )
    ours, theirs = (
        ac.evaluate(one, model.split.test, bootstrap=0).metrics for one in (model, onnx)
    )
    assert theirs == pytest.approx(ours, abs=1e-5)


def test_the_file_alone_serves_without_attncore(split, tmp_path):
    model = saved(tmp_path, split, "mean")
    session = onnxruntime.InferenceSession(
        export.to_onnx(tmp_path), providers=["CPUExecutionProvider"]
    )
    about = json.loads(session.get_modelmeta().custom_metadata_map["attncore"])
    history = [500, 503, 501]
    items = np.array([[about["items"].index(item) + 1 for item in history]])
    assert [(one.name, one.type, one.shape) for one in session.get_inputs()] == [
        ("items", "tensor(int64)", ["batch", "length"])
    ]
    assert session.get_outputs()[0].shape == ["batch", 12]
    scores = session.run(["scores"], {"items": items})[0][0]
    assert scores.dtype == np.float32
    scores[items[0] - 1] = -np.inf
    best = [about["items"][place] for place in np.argsort(-scores)[:4]]
    assert best == model.recommend(histories=[history], k=4)[0].items
    assert (about["length"], about["exclude_seen"], about["attention"]) == (
        8,
        True,
        "mean",
    )


def test_a_situation_reaches_the_graph(split, tmp_path):
    model = saved(tmp_path, split, "mean", situation_features=("place",))
    export.to_onnx(tmp_path)
    onnx = export.OnnxRecommender(tmp_path)
    scores = []
    for place in ("shop", "home"):
        a, b = (
            one.recommend(histories=[[500]], k=11, situation={"place": place})[0]
            for one in (onnx, model)
        )
        assert a.items == b.items
        assert a.scores == pytest.approx(b.scores, abs=1e-4)
        scores.append(sorted(a.scores))
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)


def test_an_export_that_fails_leaves_the_model_as_it_was(split, tmp_path, monkeypatch):
    model, met = saved(tmp_path, split, "lstm").train(), []
    lstm = model.encoder.lstm

    def fails(graph, *args, **how):
        met.append((type(graph.model.encoder.lstm), graph.model.training))
        raise RuntimeError

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(
        ac.DataError,
        match=r"attention='lstm': this model cannot be exported \(RuntimeError\)",
    ):
        export._traced(model, export._example(model))
    assert met == [(export._OnnxLSTM, False)]
    assert model.encoder.lstm is lstm
    assert model.training


# --- what goes wrong
# --------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_exported_is_refused_in_one_line(
    split, tmp_path, monkeypatch
):
    saved(tmp_path, split)

    def cannot(self, batch):
        raise RuntimeError("no such operator\nand more lines")

    monkeypatch.setattr(ac.Recommender, "scorer", cannot)
    with pytest.raises(
        ac.DataError, match="attention='self': this model cannot be exported"
    ) as error:
        export.to_onnx(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model.onnx").exists()


@pytest.fixture(scope="module")
def exported(split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    saved(folder, split, "mean")
    export.to_onnx(folder)
    return folder


@pytest.fixture
def run(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "run")


def test_a_graph_that_is_off_is_not_written(run, monkeypatch):
    old, real = (run / "model.onnx").read_bytes(), export._session

    class Off:
        def __init__(self, *args):
            self.session = real(*args)

        def run(self, names, inputs):
            return [scores + 0.1 for scores in self.session.run(names, inputs)]

    monkeypatch.setattr(export, "_session", Off)
    with pytest.raises(
        ac.DataError, match=r"attention='mean': the graph is off by 0.1; not written"
    ):
        export.to_onnx(run)
    assert (run / "model.onnx").read_bytes() == old
    assert not list(run.glob(".*"))


def test_a_full_disk_leaves_the_old_file_and_one_line(run, capsys):
    old = {path.name: path.read_bytes() for path in run.iterdir()}
    with small_disk(2000), pytest.raises(SystemExit) as ended:
        main(["export", str(run), "--to", "onnx"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert (
        "model.onnx: cannot be written (File too large); what was there is unchanged"
        in said
    )
    assert {path.name: path.read_bytes() for path in run.iterdir()} == old


@pytest.mark.parametrize("size", [0, 100, -9])
def test_a_damaged_file_is_refused(run, size):
    (run / "model.onnx").write_bytes((run / "model.onnx").read_bytes()[:size])
    with pytest.raises(
        ac.DataError, match=r"model.onnx: (is damaged|was not written)"
    ) as error:
        export.OnnxRecommender(run)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_one_of_other_weights_are_refused(run, split, exported):
    saved(run, split, "mean", item_bias=False)
    with pytest.raises(
        ac.DataError,
        match=(
            r"model.onnx: was exported from other weights than those in .*; export"
            r" again"
        ),
    ):
        export.OnnxRecommender(run)
    (run / "model.onnx").unlink()
    with pytest.raises(
        ac.DataError,
        match=r"model.onnx: is missing; write it with `python -m attncore export",
    ):
        export.OnnxRecommender(run)


def test_an_onnx_file_of_somebody_else_is_refused(run):
    import onnx
    from onnx import TensorProto, helper

    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    two = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [one], [two]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    onnx.save(model, run / "model.onnx")
    with pytest.raises(
        ac.DataError, match="was not written by `python -m attncore export`"
    ):
        export.OnnxRecommender(run)


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(run, monkeypatch, name):
    real = __import__

    def without(wanted, *args, **kwargs):
        if wanted == name:
            raise ImportError(name)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr("builtins.__import__", without)
    with pytest.raises(
        ac.DataError,
        match=f"{name} is missing; pip install onnx onnxscript onnxruntime",
    ):
        export._imported(name)


def test_more_weights_than_a_file_can_hold_are_refused(run, monkeypatch):
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(ac.DataError, match="serve it with load"):
        export.to_onnx(run)


def test_a_run_that_ranks_slates_is_refused_in_one_line(tmp_path, capsys):
    ranked = ac.split_by_time(shop_log(), valid=0.2, test=0.2)
    folder = tmp_path / "ranks"
    ac.Ranker(ac.RankerConfig(width=16), ranked).save(folder)
    said = f"{folder}: ranks slates, which has no ONNX form; serve it with load()"
    for ask in (export.to_onnx, export.OnnxRecommender):
        with pytest.raises(ac.DataError) as refused:
            ask(folder)
        assert str(refused.value) == said
    with pytest.raises(SystemExit):
        main(["export", str(folder)])
    assert capsys.readouterr().err.strip().endswith(said)
    assert not (folder / export.FILE).exists()


def test_the_command_says_where_the_file_is(run, tmp_path, capsys):
    main(["export", str(run), "--to", "onnx", "--out", str(tmp_path / "there.onnx")])
    out, err = capsys.readouterr()
    assert f"kept in {tmp_path / 'there.onnx'}" in out
    assert err == ""
    onnx = export.OnnxRecommender(run, tmp_path / "there.onnx", threads=1)
    empty = Histories.from_lists([[]])
    torch.testing.assert_close(
        onnx.score(empty), ac.load(run).score(empty), atol=1e-5, rtol=1e-5
    )


def test_new_items_join_an_exported_run_as_they_join_its_model(split, tmp_path):
    folder = tmp_path / "run"
    saved(folder, split, "self", item_features=("genre", "title"))
    export.to_onnx(folder)
    served = export.OnnxRecommender(folder, threads=1)
    new = pd.DataFrame({"item": [900, 901], "genre": [("a",), ("c",)], "title": "New"})
    bigger, model = served.with_items(new), ac.load(folder).with_items(new)
    asked = {"histories": [[500, 501], [900]], "k": 13}
    for ours, theirs in zip(
        bigger.recommend(**asked), model.recommend(**asked), strict=True
    ):
        assert set(ours.items) == set(theirs.items)
        assert sorted(ours.scores) == pytest.approx(sorted(theirs.scores), abs=1e-4)
    assert {900, 901} <= set(bigger.split.items.ids)
    assert len(served.split.items) == 12  # this one stays as it is
    more = bigger.with_items(new.assign(item=[902, 903]))
    assert more.recommend(histories=[[]], only=[901, 903], k=2)[0].items != []
    assert len(more.split.items) == 16
    ac.Recommender(served.config, split, seed=9).save(folder)
    with pytest.raises(ac.DataError, match="was exported from other weights"):
        served.with_items(new)


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: one.similar_items([500], k=2),
        lambda one: one.attention(histories=[[500, 501]]),
    ],
)
def test_what_an_exported_run_cannot_show_is_said_in_one_line(split, tmp_path, ask):
    folder = tmp_path / "run"
    saved(folder, split)
    export.to_onnx(folder)
    with pytest.raises(ac.DataError, match=r"scores alone; ask the model itself"):
        ask(export.OnnxRecommender(folder))
