"""Credentials that nobody has, made up at run time: no scanner finds them here."""

from __future__ import annotations

import base64
import random
import string

_ALL = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"


def _of(rng: random.Random, count: int, letters: str = _ALL) -> str:
    # A digit in it, as nearly every real one has.
    return "".join(rng.choice(letters) for _ in range(count - 1)) + "7"


def shaped(seed: int) -> dict[str, str]:
    """One of each well-known shape."""
    rng = random.Random(seed)

    def some(count: int, letters: str = _ALL) -> str:
        return _of(rng, count, letters)

    return {
        "anthropic": f"sk-ant-api03-{some(93)}AA",
        "aws": "AKIA" + some(16, "ABCDEFGHIJKLMNOP234567"),
        "azure": f"a1B8Q~{some(33)}",
        "gcp": "AIza" + some(35),
        "github": "ghp_" + some(36),
        "github-fine": "github_pat_" + some(82),
        "gitlab": "glpat-" + some(20),
        "huggingface": "hf_" + "".join(rng.choice(_ALL[:52]) for _ in range(34)),
        "jwt": f"eyJ{some(30)}.eyJ{some(80)}.{some(43)}",
        "npm": "npm_" + some(36),
        "openai": f"sk-proj-{some(74)}T3BlbkFJ{some(74)}",
        "pypi": "pypi-AgEIcHlwaS5vcmc" + some(90),
        "sendgrid": "SG." + some(66),
        "slack": f"xoxb-{some(11, _HEX[:10])}-{some(12, _HEX[:10])}-{some(24)}",
        "slack-hook": f"https://hooks.slack.com/services/T{some(10)}/B{some(10)}/{some(24)}",
        "stripe": "sk_live_" + some(24),
        "vault": "hvs." + some(95),
    }


def in_context(seed: int) -> dict[str, tuple[str, str]]:
    """What only its surroundings tell: a text, and the secret in it."""
    rng = random.Random(seed)
    word, long = _of(rng, 12), _of(rng, 40)
    basic = base64.b64encode(f"user:{word}".encode()).decode()
    pem = "\n".join(_of(rng, 64) for _ in range(20))
    return {
        "bearer": (f"Bearer {long}", long),
        "header": (f"Authorization: Bearer {long}", long),
        "basic": (f"Authorization: Basic {basic}", basic),
        "x-api-key": (f"X-Api-Key: {long}", long),
        "cookie": (f"Cookie: session={long}; theme=dark", long),
        "url": (f"postgres://app:{word}@db.internal:5432/app", word),
        "connection": (f"Server=db;User Id=app;Password={word};Encrypt=true", word),
        "storage": (f"AccountName=a;AccountKey={long}==;EndpointSuffix=x", long),
        "environment": (f"export OPENAI_API_KEY={long}", long),
        "query": (f"https://x.example/blob?sv=2024&sig={long}&se=1", long),
        "curl": (f"curl -s -u admin:{word} https://x.example/", word),
        "pem": (
            f"-----BEGIN RSA PRIVATE KEY-----\n{pem}\n-----END RSA PRIVATE KEY-----",
            pem[100:140],
        ),
        "pem-cut": (f"-----BEGIN PRIVATE KEY-----\n{pem}", pem[-60:]),
    }
