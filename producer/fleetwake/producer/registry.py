"""A client of Confluent's schema registry API, as far as we need it."""

from __future__ import annotations

import base64
import http.client
import json
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

from fleetwake.schemas.errors import ConfigurationError, FleetwakeError

if TYPE_CHECKING:
    from fleetwake.producer.settings import RegistrySettings
    from fleetwake.schemas.lookup import Schema

__all__ = ["Registry", "RegistryError", "RegistryRefusedError"]

_MAX_ANSWER_BYTES: Final = 1024 * 1024
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND: Final = 404
_SERVER_ERROR: Final = 500

T = TypeVar("T", int, str)


class RegistryError(FleetwakeError):
    """Raised when the registry cannot be asked now; the same may succeed later."""


class RegistryRefusedError(RegistryError):
    """Raised when it does not allow what we ask: `status` is the HTTP status."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(f"the schema registry answers {status}: {problem}")
        self.status = status


class Registry:
    """
    Blocking, one connection per request, no redirects. Safe to share by threads.

    Raises:
        ConfigurationError: the address is not one of http or https.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        url = urlsplit(settings.url.get_secret_value() if settings.url else "")
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ConfigurationError(
                "SCHEMA_REGISTRY_URL: expected http://HOST[:PORT] or https://..."
            )
        self._host, self._port = url.hostname, url.port
        self._path = url.path.rstrip("/")
        self._connect = (
            http.client.HTTPSConnection
            if url.scheme == "https"
            else http.client.HTTPConnection
        )
        self._timeout_s = settings.timeout_s
        self._headers = {"Accept": _CONTENT_TYPE, "Content-Type": _CONTENT_TYPE}
        user = settings.username or unquote(url.username or "")
        password = unquote(url.password or "")
        if settings.password is not None:
            password = settings.password.get_secret_value()
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def register(self, subject: str, schema: Schema) -> int:
        """
        Return the id of the schema under a subject; registers it if it is new.

        Raises:
            RegistryRefusedError: it is not compatible, or we are not allowed to.
            RegistryError: no answer, or one that makes no sense.
        """
        answer = self._request(
            "POST",
            f"/subjects/{quote(subject, safe='')}/versions",
            {"schema": schema.text, "schemaType": "AVRO"},
        )
        return _get(answer, "id", int)

    def schema_text(self, schema_id: int) -> str | None:
        """
        Return the schema with an id as it was registered; None if there is none.

        Raises:
            RegistryRefusedError: we are not allowed to.
            RegistryError: no answer, or one that makes no sense.
        """
        try:
            answer = self._request("GET", f"/schemas/ids/{schema_id}")
        except RegistryRefusedError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return _get(answer, "schema", str)

    def _request(
        self, method: str, path: str, body: dict[str, str] | None = None
    ) -> dict[str, object]:
        connection = self._connect(self._host, self._port, timeout=self._timeout_s)
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, self._path + path, content, self._headers)
            response = connection.getresponse()
            answer = response.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(
                f"no answer from the schema registry at {self._host}: {error!r}"
            ) from error
        finally:
            connection.close()
        return _parse(response.status, answer)


def _parse(status: int, answer: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(answer)
    except (ValueError, RecursionError):
        parsed = None
    told: dict[str, object] = parsed if isinstance(parsed, dict) else {}
    if status == http.client.OK:
        return told
    problem = f"{told.get('message', http.client.responses.get(status))!s:.200}"
    if status >= _SERVER_ERROR:
        raise RegistryError(f"the schema registry answers {status}: {problem}")
    raise RegistryRefusedError(status, problem)


def _get(answer: dict[str, object], name: str, kind: type[T]) -> T:
    value = answer.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RegistryError(f"the answer of the schema registry has no {name!r}")
    return value
