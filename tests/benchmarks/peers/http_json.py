"""Recording events over HTTP and JSON, as it is usually done: FastAPI, pydantic, pymongo, a document per event.

Does less than the service: it looks up no session, raises no flags, keeps no fingerprint, counts no signals. It does
check the fields, tells duplicates, and is as durable: w=majority, j=true.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pymongo import MongoClient
from pymongo.errors import BulkWriteError

app = FastAPI()
client: MongoClient[dict[str, Any]] = MongoClient(os.environ["PEER_MONGO_URI"], w="majority", journal=True)
collection = client[os.environ["PEER_MONGO_DATABASE"]]["session_events"]
Id = Annotated[str, Field(min_length=1, max_length=512)]


class Event(BaseModel):
    event_id: Id
    object_id: Annotated[str, Field(max_length=512)] = ""
    event_types: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=16)]
    position: Annotated[int, Field(ge=0)] | None = None
    dwell: Annotated[float, Field(ge=0, le=31_622_400)] | None = None
    created_at: datetime | None = None


class Push(BaseModel):
    events: Annotated[list[Event], Field(min_length=1, max_length=10_000)]


class Outcome(BaseModel):
    event_id: str
    status: str


class Pushed(BaseModel):
    outcomes: list[Outcome]


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/sessions/{session_id}/events")
def push_events(session_id: Id, push: Push) -> Pushed:
    now = datetime.now(UTC)
    documents = [
        {
            **event.model_dump(exclude_none=True),
            "_id": {"s": session_id, "e": event.event_id},
            "session_id": session_id,
            "created_at": event.created_at or now,
            "recorded_at": now,
        }
        for event in push.events
    ]
    duplicates = set()
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if any(failed["code"] != 11000 for failed in error.details["writeErrors"]):
            raise
        duplicates = {failed["index"] for failed in error.details["writeErrors"]}
    return Pushed(
        outcomes=[
            Outcome(event_id=event.event_id, status="duplicate" if index in duplicates else "accepted")
            for index, event in enumerate(push.events)
        ]
    )
