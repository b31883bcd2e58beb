"""The check on FastAPI, asking SQLite within the loop: the fastest way there."""

import sqlite3
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.security import APIKeyHeader

from console import settings

QUERY = "SELECT account_id FROM apikeys_apikey WHERE digest = ? AND deleted_at IS NULL"
application = FastAPI()
connection = sqlite3.connect(settings.DATABASES["default"]["NAME"], isolation_level=None)


@application.get("/verify")
async def verify(key: Annotated[str, Depends(APIKeyHeader(name="dashvector-auth-token"))]) -> Response:
    row = connection.execute(QUERY, settings.VAULT.digests("api-key", key)[:1]).fetchone()
    if row is None:
        raise HTTPException(401)
    return Response(headers={"x-account-id": str(row[0])})
