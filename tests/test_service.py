"""Facts about the example service, `book/service.py`, on a log with text ids."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pandas as pd
import pytest
import service
from fastapi.testclient import TestClient

import attncore as ac

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = [
        {"user": f"u:{u}", "item": f"i,{(u * 3 + n * (1 + u % 3)) % 20}", "time": n}
        for u in range(12)
        for n in range(6)
    ]
    log = ac.Interactions.from_frame(pd.DataFrame(rows), name="shop")
    config = ac.RecommenderConfig(width=8, heads=2, blocks=1, length=10)
    folder = tmp_path_factory.mktemp("service") / "run"
    ac.Recommender(config, ac.leave_one_out(log)).save(folder)
    return folder


@pytest.fixture
def web(run, monkeypatch):
    monkeypatch.setenv("ATTNCORE_RUN", str(run))
    with TestClient(service.app) as client:
        yield client


def test_answers_are_those_of_the_model(run, web):
    model = ac.load(run)
    for asked, told in (
        ({"users": ["u:3"]}, {"user": "u:3"}),
        ({"histories": [["i,3", "i,7"]]}, {"history": ["i,3", "i,7"]}),
        ({"histories": [["i,3"]]}, {"user": "u:3", "history": ["i,3"]}),
        ({"histories": [["i,3"]]}, {"user": "nobody", "history": ["i,3"]}),
    ):
        filters = {
            "k": 4,
            "exclude": ["i,5", "gone"],
            "only": [f"i,{n}" for n in range(15)],
        }
        answer = web.post("/recommend", json=told | filters)
        (wanted,) = model.recommend(**asked, **filters)
        assert answer.status_code == 200
        found = answer.json()
        assert found["items"] == wanted.items
        assert (found["by"], found["unknown"]) == ("model", [])
        assert found["version"] == web.get("/health").json()["version"]


@pytest.mark.parametrize(
    "question",
    [{}, {"user": "nobody"}, {"history": []}, {"history": ["gone", "gone too"]}],
)
def test_who_is_unknown_gets_what_is_popular(run, web, question):
    split = ac.load(run).split
    answer = web.post("/recommend", json=question | {"k": 3}).json()
    wanted = ac.baselines.Popularity(split).recommend(histories=[[]], k=3)[0].items
    assert answer["items"] == wanted
    assert answer["by"] == "popularity"
    assert answer["unknown"] == question.get("history", [])


def test_unknown_items_of_a_history_are_named_and_passed_over(run, web):
    told = {"history": ["i,3", "new", "i,7"], "k": 3}
    answer = web.post("/recommend", json=told).json()
    (wanted,) = ac.load(run).recommend(histories=[["i,3", "i,7"]], k=3)
    assert (answer["items"], answer["unknown"]) == (wanted.items, ["new"])


def test_what_a_user_did_a_second_ago_counts(run, web):
    model = ac.load(run)
    told = {"user": "u:3", "events": ["i,15", "gone", "i,9"], "k": 5}
    answer = web.post("/recommend", json=told).json()
    (wanted,) = model.recommend(users=["u:3"], events=[["i,15", "i,9"]], k=5)
    (before,) = model.recommend(users=["u:3"], k=5)
    assert answer["items"] == wanted.items != before.items
    assert answer["unknown"] == ["gone"]
    stranger = web.post("/recommend", json=told | {"user": "nobody"}).json()
    (wanted,) = model.recommend(histories=[["i,15", "i,9"]], k=5)
    assert (stranger["items"], stranger["by"]) == (wanted.items, "model")


def test_a_baseline_is_served_like_a_model(run, tmp_path, monkeypatch):
    chain = ac.baselines.MarkovChain(ac.load(run).split)
    chain.save(tmp_path / "chain")
    monkeypatch.setenv("ATTNCORE_RUN", str(tmp_path / "chain"))
    told = {"user": "u:3", "events": ["i,15"], "k": 4}
    with TestClient(service.app) as web:
        answer = web.post("/recommend", json=told).json()
    (wanted,) = chain.recommend(users=["u:3"], events=[["i,15"]], k=4)
    assert answer["items"] == wanted.items


def test_the_moment_of_asking_hides_what_came_after_it(run, web):
    model = ac.load(run)
    answer = web.post("/recommend", json={"user": "u:3", "time": 2, "k": 5}).json()
    (wanted,) = model.recommend(users=["u:3"], time=2, k=5)
    (later,) = model.recommend(users=["u:3"], k=5)
    assert answer["items"] == wanted.items != later.items


def test_without_a_run_it_does_not_start_and_says_so_in_one_line(tmp_path):
    server = subprocess.run(
        [
            *(sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "book")),
            *("service:app", "--port", "0", "--log-level", "error"),
        ],
        env=os.environ | {"ATTNCORE_RUN": str(tmp_path / "none")},
        capture_output=True,
        timeout=120,
        text=True,
    )
    assert server.returncode != 0
    assert "is not a run folder" in server.stderr
    assert "Traceback" not in server.stderr


def test_health_says_what_is_served(run, web):
    told = web.get("/health").json()
    split = ac.load(run).split
    version = told.pop("version")
    assert len(version) == 12
    assert told == {"data": "shop", "users": 12, "items": len(split.items)}


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        ('{"k": 0}', 422, "k: Input should be greater than or equal to 1"),
        ('{"k": 101}', 422, "k: Input should be less"),
        ('{"history": "i,3"}', 422, "history: Input should be a valid list"),
        ('{"past": ["i,3"]}', 422, "past: means nothing here; user, history, events"),
        ("[1", 422, "the request: is no JSON"),
        ('{"user": "u:1", "time": "soon"}', 400, "time='soon': give seconds"),
        ('{"user": "u:1", "time": 1700000000000}', 400, "lies in the year"),
        ("", 422, "the request: Field required"),
        ('{"history": [[1]]}', 422, "history.0"),
    ],
)
def test_a_bad_question_is_one_line(web, content, status, says):
    json = {"content-type": "application/json"}
    answer = web.post("/recommend", content=content, headers=json)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    line = answer.json()["error"]
    assert says in line
    assert "\n" not in line


def test_a_wrong_address_or_method_is_one_line(web):
    assert web.get("/nowhere").json() == {"error": "Not Found"}
    assert web.get("/recommend").json() == {"error": "Method Not Allowed"}


def test_numbers_as_ids_are_accepted_as_numbers_or_text(tmp_path, monkeypatch):
    frame = pd.DataFrame(
        [(u, (u + n) % 9 + 1, n) for u in range(9) for n in range(5)],
        columns=["user", "item", "time"],
    )
    split = ac.leave_one_out(ac.Interactions.from_frame(frame))
    config = ac.RecommenderConfig(width=8, heads=1, blocks=1, length=5)
    ac.Recommender(config, split).save(tmp_path / "run")
    monkeypatch.setenv("ATTNCORE_RUN", str(tmp_path / "run"))
    with TestClient(service.app) as web:
        one = web.post("/recommend", json={"history": [3, 4], "k": 2}).json()
        other = web.post("/recommend", json={"history": ["3", "4"], "k": 2}).json()
        assert one["items"] == other["items"]
        assert all(isinstance(item, int) for item in one["items"])
        wrong = web.post("/recommend", json={"history": ["three"]})
        assert wrong.status_code == 400
        assert wrong.json() == {
            "error": "unknown item 'three': an id of this log is an integer"
        }


def test_the_readmes_snippet_runs_on_its_first_run(monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    snippet = re.search(r"## Serving\n\n```python\n(.*?)```", text, re.S)[1]
    assert 'ac.load("runs/first")' in snippet
    split = ac.leave_one_out(ac.datasets.load("ml-100k"))
    model = ac.Recommender(ac.RecommenderConfig(width=8, blocks=1), split)
    monkeypatch.setattr(ac, "load", lambda folder: model)
    exec(snippet, {"ac": ac})


def test_two_workers_serve_the_file_by_its_name(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "book")]
    command += ["service:app", "--workers", "2", "--port", str(port)]
    server = subprocess.Popen(
        command,
        env=os.environ | {"ATTNCORE_RUN": str(run)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        answer, until = None, time.monotonic() + 120
        while answer is None and time.monotonic() < until:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
            except httpx.TransportError:
                assert server.poll() is None, server.stderr.read().decode()
                time.sleep(0.2)
        assert answer.json()["data"] == "shop"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
