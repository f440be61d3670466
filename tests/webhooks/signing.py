"""LiveKit's webhooks, made by hand: signed as LiveKit signs them, or not quite."""

import base64
import hashlib
import io
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt

PATH = "/livekit/webhook"


def event(kind: str, room: str = "", **fields: Any) -> bytes:
    """A webhook's body."""
    made = {"event": kind, "id": f"EV_{uuid.uuid4().hex[:12]}", "createdAt": str(int(time.time())), **fields}
    return json.dumps(made | ({"room": {"name": room, "sid": "RM_none"}} if room else {})).encode()


def token(body: bytes, key: str, secret: str, *, begins_s: float = 0.0, lasts_s: float = 300.0, **claims: Any) -> str:
    """Its token; claims that are None are left out."""
    now = time.time()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    made = {
        "iss": key,
        "nbf": int(now + begins_s),
        "exp": int(now + lasts_s),
        "sha256": digest,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode({name: value for name, value in (made | claims).items() if value is not None}, secret, "HS256")


def doubled(body: bytes, key: str, secret: str) -> str:
    """A token that names its issuer twice."""
    claims = jwt.decode(token(body, key, secret), options={"verify_signature": False})
    text = f"{json.dumps(claims)[:-1]}, {json.dumps({'iss': key})[1:]}"
    return jwt.PyJWS().encode(text.encode(), secret, "HS256")


@dataclass
class Answer:
    """What the endpoint answered."""

    status: int
    headers: dict[str, str] = field(repr=False)


async def post(
    address: str, body: bytes, authorization: str | None, *, path: str = PATH, method: str = "POST"
) -> Answer:
    """Sends it, on a connection of its own."""
    headers = {"Content-Type": "application/webhook+json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{address}{path}", data=io.BytesIO(body), headers=headers) as answer,
    ):
        await answer.read()
        return Answer(answer.status, dict(answer.headers))
