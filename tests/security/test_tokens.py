"""JSON Web Tokens as credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.security.guarded import ERASE, EVENTS, EXPORT, SCHEDULE, SEARCH, UPSERT, channel_to, guarded, put, reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = ec.generate_private_key(ec.SECP256R1())
ISSUER, AUDIENCE = "https://login.example", "tideline"


def jwk(key: Any, key_id: str, **more: str) -> dict[str, Any]:
    algorithm = {rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm, ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm}
    made = next((found for kind, found in algorithm.items() if isinstance(key, kind)), jwt.algorithms.OKPAlgorithm)
    return {**json.loads(made.to_jwk(key.public_key())), "kid": key_id, "use": "sig", **more}


KEYS = {"keys": [jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(ED, "ed"), {"kty": "from the future", "kid": "x"}]}


def token(key: Any = EC, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A good token but for what is given; a claim that is None is left out."""
    now = int(time.time())
    said = {"sub": "shop", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 60, "roles": ["client"], **claims}
    return jwt.encode(
        {name: value for name, value in said.items() if value is not None},
        key,
        algorithm=algorithm,
        headers={"kid": "ec", **(headers or {})},
    )


def unsigned(header: dict[str, Any], secret: bytes | None = None, signature: bytes = b"") -> str:
    """A token made by hand, as an attacker would."""
    now = int(time.time())
    claims = {"sub": "shop", "iss": ISSUER, "aud": AUDIENCE, "exp": now + 60, "roles": ["admin"]}
    text = ".".join(_b64(json.dumps(part).encode()) for part in (header, claims))
    if secret is not None:
        signature = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{_b64(signature)}"


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(KEYS))
    return file


def settings(jwks: Path | str, **more: Any) -> dict[str, Any]:
    return {
        "auth_jwks": str(jwks),
        "auth_jwt_audience": AUDIENCE,
        "auth_jwt_issuer": ISSUER,
        "auth_jwt_algorithms": ("RS256", "ES256", "EdDSA"),
        **more,
    }


def _public(key: Any) -> bytes:
    raw: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw


NOW = int(time.time())
ACCEPTED = {
    "ec": token,
    "rsa": lambda: token(RSA, "RS256", {"kid": "rsa"}),
    "ed25519": lambda: token(ED, "EdDSA", {"kid": "ed"}),
    "several audiences": lambda: token(aud=["other", AUDIENCE]),
    "roles as a text": lambda: token(roles="openid client"),
    "expired within the skew": lambda: token(exp=int(time.time()) - 10),
    "good for longer than there is time": lambda: token(exp=10**400),
    "begins within the skew": lambda: token(nbf=int(time.time()) + 10),
}
REFUSED = {
    "expired": lambda: token(exp=int(time.time()) - 60),
    "never expires": lambda: token(exp=None),
    "not yet": lambda: token(nbf=int(time.time()) + 300),
    "issued later": lambda: token(iat=int(time.time()) + 300),
    "other audience": lambda: token(aud="another service"),
    "no audience": lambda: token(aud=None),
    "other issuer": lambda: token(iss="https://login.example.evil"),
    "no issuer": lambda: token(iss=None),
    "nobody": lambda: token(sub=None),
    "empty subject": lambda: token(sub=""),
    "no text for a subject": lambda: unsigned({"alg": "ES256", "kid": "ec"}),
    "stranger": lambda: token(STRANGER),
    "unknown key": lambda: token(headers={"kid": "unknown"}),
    "key of another kind": lambda: token(headers={"kid": "rsa"}),
    "wrong algorithm for the key": lambda: unsigned({"alg": "RS256", "kid": "ec"}, signature=b"x" * 64),
    "an algorithm that is not allowed": lambda: token(RSA, "PS256", {"kid": "rsa"}),
    "none": lambda: unsigned({"alg": "none", "kid": "ec"}),
    "None": lambda: unsigned({"alg": "None"}),
    "no algorithm": lambda: unsigned({"kid": "ec"}),
    "algorithm that is no text": lambda: unsigned({"alg": ["ES256"], "kid": "ec"}),
    "shared secret: public key as PEM": lambda: unsigned({"alg": "HS256", "kid": "rsa"}, _public(RSA)),
    "shared secret: nothing": lambda: unsigned({"alg": "HS256", "kid": "rsa"}, b""),
    "its own key": lambda: token(STRANGER, headers={"kid": "new", "jwk": jwk(STRANGER, "new")}),
    "keys from elsewhere": lambda: token(STRANGER, headers={"kid": "new", "jku": "http://localhost:1/keys"}),
    "extensions": lambda: token(headers={"crit": ["exp"]}),
    "no signature": lambda: token().rsplit(".", 1)[0] + ".",
    "other claims": lambda: ".".join(
        [token().split(".")[0], token(roles=["admin"]).split(".")[1], token().split(".")[2]]
    ),
    "no number for a time": lambda: token(exp="tomorrow"),
    "no token": lambda: "a.b.c",
    "no tenant's name": lambda: token(tenant="../other"),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED)
async def test_a_good_token_is_accepted(case: str, jwks: Path) -> None:
    async with guarded(**settings(jwks)) as server, channel_to(server) as channel:
        assert await reason(channel, SEARCH, ACCEPTED[case]()) == ""
        assert await reason(channel, ERASE, ACCEPTED[case]()) == "PERMISSION_DENIED"


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_token_is_refused(case: str, jwks: Path) -> None:
    async with guarded(**settings(jwks)) as server, channel_to(server) as channel:
        assert await reason(channel, SEARCH, REFUSED[case]()) == "UNAUTHENTICATED"
        assert server.callers == []


@pytest.mark.parametrize("method", [SEARCH, EVENTS, UPSERT, EXPORT])
async def test_tokens_count_for_calls_of_all_shapes(method: str, jwks: Path) -> None:
    async with guarded(**settings(jwks)) as server, channel_to(server) as channel:
        assert await reason(channel, method, token(roles=["client", "internal"])) == ""
        assert await reason(channel, method, token(STRANGER, roles=["client", "internal"])) == "UNAUTHENTICATED"
        assert await reason(channel, method, token(roles=[])) == "PERMISSION_DENIED"


async def test_roles_may_be_inside_other_claims(jwks: Path) -> None:
    chosen = settings(jwks, auth_jwt_roles_claim="realm_access.roles")
    async with guarded(**chosen) as server, channel_to(server) as channel:
        assert await reason(channel, SCHEDULE, token(realm_access={"roles": ["internal"]})) == ""
        assert await reason(channel, SCHEDULE, token(roles=["internal"])) == "PERMISSION_DENIED"
        assert server.callers[0].subject == "token:shop"
        for odd in ({"roles": {"internal": 1}}, ["internal"], "internal", {"roles": [["internal"]]}, None):
            assert await reason(channel, SCHEDULE, token(realm_access=odd)) == "PERMISSION_DENIED"


async def test_new_keys_in_the_file_count_at_once_and_a_bad_file_changes_nothing(jwks: Path) -> None:
    async with guarded(**settings(jwks)) as server, channel_to(server) as channel:
        assert await reason(channel, SEARCH, token(STRANGER, headers={"kid": "new"})) == "UNAUTHENTICATED"
        put(jwks, json.dumps({"keys": [jwk(STRANGER, "new")]}))
        assert await reason(channel, SEARCH, token(STRANGER, headers={"kid": "new"})) == ""
        assert await reason(channel, SEARCH, token()) == "UNAUTHENTICATED"
        put(jwks, "{")
        assert await reason(channel, SEARCH, token(STRANGER, headers={"kid": "new"})) == ""


async def test_a_token_that_was_good_is_refused_once_it_is_over(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    decode = jwt.decode

    def counted(*given: Any, **named: Any) -> Any:
        verified.append(given)
        return decode(*given, **named)

    monkeypatch.setattr(jwt, "decode", counted)
    async with guarded(**settings(jwks, auth_jwt_skew=0)) as server, channel_to(server) as channel:
        short = token(exp=int(time.time()) + 2)
        calls = 0
        while (said := await reason(channel, SEARCH, short)) == "":
            calls += 1
        assert said == "UNAUTHENTICATED"
        # It was verified when it came, and when it was over.
        assert calls > 2
        assert len(verified) == 2


async def test_keys_that_are_not_for_signatures_are_not_used(jwks: Path) -> None:
    secret = {"kty": "oct", "k": _b64(b"s" * 32), "kid": "shared", "alg": "HS256"}
    put(jwks, json.dumps({"keys": [jwk(EC, "ec") | {"use": "enc"}, jwk(RSA, "rsa", alg="RS512"), secret]}))
    async with guarded(**settings(jwks)) as server, channel_to(server) as channel:
        assert await reason(channel, SEARCH, token()) == "UNAUTHENTICATED"
        assert await reason(channel, SEARCH, token(RSA, "RS256", {"kid": "rsa"})) == "UNAUTHENTICATED"
        assert (
            await reason(channel, SEARCH, unsigned({"alg": "HS256", "kid": "shared"}, b"s" * 32)) == "UNAUTHENTICATED"
        )


async def test_keys_at_a_url_are_fetched_again_for_a_key_that_is_not_known_but_not_by_every_call() -> None:
    with _served(KEYS) as (url, answers, asked):
        chosen = settings(url, auth_jwks_min_interval=0.2)
        async with guarded(**chosen) as server, channel_to(server) as channel:
            for _ in range(3):
                assert await reason(channel, SEARCH, token()) == ""
            assert len(asked) == 1
            new = token(STRANGER, headers={"kid": "new"})
            answers[0] = {"keys": [jwk(EC, "ec"), jwk(STRANGER, "new")]}
            while await reason(channel, SEARCH, new) == "UNAUTHENTICATED":  # until the interval is over
                assert len(asked) == 1
            assert len(asked) == 2
            before = time.monotonic()
            for _ in range(20):
                assert await reason(channel, SEARCH, token(headers={"kid": "made up"})) == "UNAUTHENTICATED"
            assert len(asked) - 2 <= (time.monotonic() - before) / 0.2 + 1


async def test_while_keys_cannot_be_fetched_tokens_are_told_to_come_again() -> None:
    with _served(None) as (url, answers, _):
        chosen = settings(url, auth_jwks_min_interval=0.05, auth_jwks_max_age=0.05)
        async with guarded(**chosen) as server, channel_to(server) as channel:
            assert await reason(channel, SEARCH, token()) == "DEPENDENCY_UNAVAILABLE"
            answers[0] = KEYS
            while (said := await reason(channel, SEARCH, token())) != "":
                assert said == "DEPENDENCY_UNAVAILABLE"
            answers[0] = None
            # Those that are known go on.
            for _ in range(10):
                assert await reason(channel, SEARCH, token()) == ""


@contextmanager
def _served(first: Any) -> Iterator[tuple[str, list[Any], list[str]]]:
    """A URL of keys, what it answers (None: a failure), and what it was asked."""
    answers, asked = [first], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if answers[0] is not None else 503)
            self.end_headers()
            self.wfile.write(json.dumps(answers[0]).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/keys", answers, asked
        finally:
            server.shutdown()
            serving.join()
