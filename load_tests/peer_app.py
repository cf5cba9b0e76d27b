"""A plain FastAPI server around fast-plate-ocr: `POST /read` a picture, get its text."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from load_tests.peer import DEFAULT_DIR, DIR_VARIABLE, decode, recogniser

app = FastAPI()
_reader = recogniser(Path(os.environ.get(DIR_VARIABLE, DEFAULT_DIR)))


def _read(data: bytes) -> dict[str, str]:
    return {"plate": _reader.run(decode(data))[0].plate}


@app.get("/health")
def health() -> dict[str, bool]:
    """Up."""
    return {"ok": True}


@app.post("/read")
async def read(request: Request) -> dict[str, str]:
    """One encoded picture."""
    return await run_in_threadpool(_read, await request.body())
