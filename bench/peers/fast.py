"""A minimal FastAPI check on the gate's own rows, sqlite3 inline."""

import sqlite3
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Response

from console import settings

app = FastAPI()
database = sqlite3.connect(str(settings.DATABASES["default"]["NAME"]), check_same_thread=False)
QUERY = "SELECT id, account_id FROM apikeys_apikey WHERE digest = ? AND deleted_at IS NULL"


@app.get("/verify")
async def verify(response: Response, dashvector_auth_token: Annotated[str, Header()]) -> None:
    row = database.execute(QUERY, settings.VAULT.digests("api-key", dashvector_auth_token)[:1]).fetchone()
    if row is None:
        raise HTTPException(401)
    response.headers["X-Api-Key-Id"], response.headers["X-Account-Id"] = row[0], str(row[1])
