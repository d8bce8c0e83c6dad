"""A recommender behind a web address, as an example to copy and change:

    ATTNCORE_RUN=runs/first uvicorn --app-dir book service:app --workers 2

Each worker reads the run folder once. A new model is served by starting it anew. Have
`uvloop` installed: without it, workers that share a port answer some 40 ms late over a
connection that stays open (the port's TCP waits for more to send).
"""

import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

import attncore as ac

Id = int | str


@asynccontextmanager
async def reading(app: FastAPI) -> AsyncIterator[None]:
    """Read the run, and what answers where the model knows nothing."""
    torch.set_num_threads(1)  # it is the workers that share the cores
    folder = Path(os.environ.get("ATTNCORE_RUN", "runs/first"))
    try:
        app.state.model = ac.load(folder)
    except (ValueError, OSError):
        sys.tracebacklimit = 0  # nothing is served, and the error's line says why
        raise
    config = (folder / "config.json").read_bytes()  # it holds every file's checksum
    app.state.version = hashlib.sha256(config).hexdigest()[:12]
    app.state.popular = ac.baselines.Popularity(app.state.model.split)
    yield


app = FastAPI(lifespan=reading, title="Recommendations")


class Question(BaseModel):
    """Who asks for how many items: a user of the log, or the events of anybody.

    `events` are what a user did since the log ended, and `time` is the moment of
    asking, in seconds or as a date.
    """

    model_config = ConfigDict(extra="forbid")
    user: Id | None = None
    history: list[Id] | None = Field(None, max_length=10_000)
    events: list[Id] = Field([], max_length=10_000)
    time: int | str | None = None
    k: int = Field(10, ge=1, le=100)
    exclude: list[Id] = []
    only: list[Id] | None = None


QUESTION = tuple(Question.model_fields)


@app.get("/health")
async def health() -> dict[str, Any]:
    """What is served."""
    split = app.state.model.split
    size = {"users": len(split.users), "items": len(split.items)}
    return {"version": app.state.version, "data": split.name, **size}


# Not handed to a thread: an answer is a millisecond of work for one core, which threads
# would only fight for.
@app.post("/recommend")
async def recommend(question: Question) -> dict[str, Any]:
    """The best items; the most popular ones where nothing is known of who asks."""
    model, split = app.state.model, app.state.model.split
    user = [] if question.user is None else as_in(split.users, [question.user])
    history = as_in(split.items, [*(question.history or []), *question.events])
    known = split.items.decode(split.items.known(history)).tolist()
    asked: dict[str, Any] = {"histories": [known]}
    if question.history is None and len(split.users.known(user)):
        asked = {"users": user}
        asked |= {"events": [known]} if known else {}
        asked |= {"time": question.time} if question.time is not None else {}
    by_model = "users" in asked or bool(known)
    only = None if question.only is None else as_in(split.items, question.only)
    exclude = as_in(split.items, question.exclude)
    answering = model if by_model else app.state.popular
    (picks,) = answering.recommend(k=question.k, exclude=exclude, only=only, **asked)
    return {
        "items": picks.items,
        "titles": [split.label(item) for item in picks.items],
        "by": "model" if by_model else "popularity",
        "unknown": [item for item in history if item not in known],
        "version": app.state.version,
    }


def as_in(vocabulary: Any, ids: list[Id]) -> list[Id]:
    """Ids in the type that the log has them in, whatever JSON made of them."""
    return vocabulary.parse([str(one) for one in ids])


# Whatever is wrong with a question is one line: {"error": "..."}.


@app.exception_handler(RequestValidationError)
async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
    """A question of another form."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    said = {
        "json_invalid": "the request: is no JSON",
        "extra_forbidden": f"{where}: means nothing here; {', '.join(QUESTION)} do",
    }
    line = said.get(first["type"], f"{where}: {first['msg']}")
    return JSONResponse({"error": line}, 422)


@app.exception_handler(ValueError)
async def refused(_: Request, error: ValueError) -> JSONResponse:
    """A question that has no answer, in the module's own words."""
    return JSONResponse({"error": " ".join(str(error).split())}, 400)


@app.exception_handler(HTTPException)
async def missing(_: Request, error: HTTPException) -> JSONResponse:
    """An address or a method that is not there."""
    return JSONResponse({"error": error.detail}, error.status_code)
