"""The peer of intake: the same framework and server, a route that parses the body and says it again."""

from typing import Any

import orjson
from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/echo", status_code=201)
async def echo(request: Request) -> dict[str, Any]:
    return orjson.loads(await request.body())


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}
