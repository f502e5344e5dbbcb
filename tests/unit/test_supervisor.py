"""Processes are kept running, and none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from fleetwake.consumers.supervisor import (
    AlreadyRunningError,
    ProcessFailedError,
    ProcessSpec,
    Supervisor,
    interruptible,
    read_state,
    service_processes,
)
from fleetwake.consumers.supervisor.spec import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOREVER = "print('ready', flush=True)\nimport time\ntime.sleep(300)"
ENDS = "print('ready', flush=True)\nimport sys, time\ntime.sleep({0})\nsys.exit({1})"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOREVER


def spec(name: str, code: str, **more: object) -> ProcessSpec:
    """A small Python program, ready when it says so."""
    argv = (sys.executable, "-I", "-S", "-c", code)
    return ProcessSpec(name=name, argv=argv, ready_line="ready", **more)


class FakeClock:
    """Every run takes `run_s`; waiting takes no time, `waits` times."""

    def __init__(self, waits: int, run_s: float = 0.0) -> None:
        self.waited: list[float] = []
        self.enough = asyncio.Event()
        self.run_s = run_s
        self._waits = waits
        self._now = 0.0

    def now(self) -> float:
        self._now += self.run_s
        return self._now

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        self.waited.append(seconds)
        if len(self.waited) == self._waits:
            self.enough.set()
            await event.wait()


async def until(done: Callable[[], object], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not done():
            await asyncio.sleep(0.02)


async def test_start_waits_until_ready(tmp_path: Path) -> None:
    """When start returns, the process has said that it is ready."""
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(spec("one", FOREVER))
        [one] = supervisor.states
        written = read_state(tmp_path)

        assert one.phase == "ready"
        assert one.pid is not None
        assert is_alive(one.pid)
        assert written is not None
        assert (one,) == written.processes
        assert os.getpid() == written.pid
    assert not is_alive(one.pid)
    assert read_state(tmp_path) is None


async def test_a_url_that_answers_200_is_ready(tmp_path: Path) -> None:
    """Other answers are not."""
    [port] = [port for port, _ in zip(free_ports("127.0.0.1", 0), [0], strict=False)]
    code = f"""
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Answer.asked += 1
        self.send_response(200 if Answer.asked > 2 else 503)
        self.end_headers()
        print(f"asked {{Answer.asked}}", flush=True)
http.server.HTTPServer(("127.0.0.1", {port}), Answer).serve_forever()
"""
    web = ProcessSpec(
        name="web",
        argv=(sys.executable, "-I", "-c", code),
        ready_url=f"http://127.0.0.1:{port}/readyz",
    )
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(web)

    assert "asked 3" in (tmp_path / "logs" / "web.log").read_text()


async def test_each_process_has_its_own_session(tmp_path: Path) -> None:
    """Ctrl-C in a terminal goes to its foreground process group: ours only."""
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(spec("one", FOREVER))
        [one] = supervisor.states
        assert one.pid is not None

        assert one.pid == os.getsid(one.pid)


async def test_restarts_wait_longer_and_longer(tmp_path: Path) -> None:
    """From 1 s to 30 s; the state says how often, and the last exit code."""
    clock = FakeClock(waits=7)
    async with Supervisor(tmp_path, clock=clock) as supervisor:
        await supervisor.start(spec("one", ENDS.format(0.2, 7)))
        async with asyncio.timeout(20):
            await clock.enough.wait()
        [one] = supervisor.states

    assert clock.waited == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert one.phase == "waiting"
    assert one.restarts == 6
    assert one.exit_code == 7
    assert one.next_start_at_ms is not None
    assert one.pid is None


async def test_a_stable_minute_is_a_new_beginning(tmp_path: Path) -> None:
    """After it, the first wait is short again."""
    clock = FakeClock(waits=3, run_s=60.0)
    async with Supervisor(tmp_path, clock=clock) as supervisor:
        await supervisor.start(spec("one", ENDS.format(0.2, 1)))
        async with asyncio.timeout(20):
            await clock.enough.wait()

    assert clock.waited == [1.0, 1.0, 1.0]


async def test_a_wrong_setting_is_final(tmp_path: Path) -> None:
    """Exit code 2 would come again: no restart, and wait returns."""
    clock = FakeClock(waits=1)
    async with Supervisor(tmp_path, clock=clock) as supervisor:
        await supervisor.start(spec("one", ENDS.format(0.3, 2)))
        async with asyncio.timeout(20):
            await supervisor.wait()
        [one] = supervisor.states

    assert one.phase == "failed"
    assert one.exit_code == 2
    assert clock.waited == []


async def test_an_end_before_ready_is_an_error(tmp_path: Path) -> None:
    """Start tells which process, its exit code and its last words; others go on."""
    dies = "import sys\nprint('port 1 is in use')\nsys.exit(3)"
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ProcessFailedError, match="port 1 is in use") as failed:
            await supervisor.start(spec("good", FOREVER), spec("bad", dies))

        assert failed.value.name == "bad"
        assert failed.value.exit_code == 3
        await until(lambda: supervisor.states[0].phase == "ready")
        assert supervisor.states[1].phase == "failed"


async def test_a_missing_program_is_an_error(tmp_path: Path) -> None:
    """As in a shell: 127."""
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(ProcessFailedError, match="No such file") as failed:
            await supervisor.start(ProcessSpec(name="x", argv=("/no/such/program",)))

    assert failed.value.exit_code == 127


async def test_stops_in_reverse_order(tmp_path: Path) -> None:
    """Services end before the broker begins to."""
    notes = tmp_path / "notes"
    code = f"""
import signal, sys, time
def stop(*_):
    time.sleep(0.3 if sys.argv[1] == "service" else 0)
    open({str(notes)!r}, "a").write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(300)
"""
    async with Supervisor(tmp_path) as supervisor:
        for name in ("broker", "service"):
            one = spec(name, code)
            argv = (*one.argv, name)
            await supervisor.start(
                ProcessSpec(name=name, argv=argv, ready_line="ready")
            )

    assert notes.read_text().split() == ["service", "broker"]
    assert [one.phase for one in supervisor.states] == ["stopped", "stopped"]


async def test_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    """After its own deadline."""
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(spec("one", STUBBORN, stop_timeout_s=0.2))

    assert supervisor.states[0].exit_code == -signal.SIGKILL


async def test_a_second_cancellation_kills(tmp_path: Path) -> None:
    """The first one stops in order, which may take long."""

    async def up() -> None:
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(spec("one", STUBBORN))
            started.set_result(supervisor)
            await supervisor.wait()

    started = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(up())
    supervisor: Supervisor = await started
    [one] = supervisor.states
    assert one.pid is not None
    task.cancel()
    await asyncio.sleep(0.1)

    assert is_alive(one.pid)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not is_alive(one.pid)


async def test_one_folder_has_one_supervisor(tmp_path: Path) -> None:
    """The other one is told which process has it."""
    async with Supervisor(tmp_path):
        with pytest.raises(AlreadyRunningError, match="fleetwake down") as refused:
            await Supervisor(tmp_path).__aenter__()

    assert os.getpid() == refused.value.pid
    async with Supervisor(tmp_path):
        pass


PARENT = """
import asyncio, sys
from pathlib import Path
from fleetwake.consumers.supervisor import ProcessSpec, Supervisor

CHILD = '''
import os, sys, time
from fleetwake.consumers.supervisor.parent import stop_with_parent
stop_with_parent({parent})
print("ready", flush=True)
time.sleep(300)
'''

async def main():
    import os
    argv = (sys.executable, "-c", CHILD.format(parent=os.getpid()))
    async with Supervisor(Path(sys.argv[1])) as supervisor:
        await supervisor.start(ProcessSpec(name="one", argv=argv, ready_line="ready"))
        print("up", flush=True)
        await supervisor.wait()

asyncio.run(main())
"""


async def test_a_killed_supervisor_leaves_no_process(tmp_path: Path) -> None:
    """Its processes notice; until they have ended, nobody else gets the folder."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert parent.stdout
    with parent.stdout:
        assert parent.stdout.readline() == b"up\n"
    state = read_state(tmp_path)
    assert state is not None
    [one] = state.processes
    assert one.pid is not None
    os.kill(one.pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()

    assert read_state(tmp_path) is None
    with pytest.raises(AlreadyRunningError, match="earlier start"):
        await Supervisor(tmp_path)._lock.acquire(patience_s=0.3)

    os.kill(one.pid, signal.SIGCONT)
    async with Supervisor(tmp_path):
        assert not is_alive(one.pid)


def is_alive(pid: int) -> bool:
    """Zombies are not: they have ended, and their new parent has not looked yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)]
)
async def test_signals_cancel(number: signal.Signals, code: int) -> None:
    """Ctrl-C is 130; to be asked to stop, and to stop, is no failure."""
    with interruptible() as interruption:
        os.kill(os.getpid(), number)
        await asyncio.sleep(10)

    assert code == interruption.exit_code


async def test_a_cancellation_without_signal_passes() -> None:
    """It is not ours to swallow."""

    async def body() -> None:
        with interruptible():
            await asyncio.sleep(10)

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


def test_ports_in_use_are_left_out() -> None:
    """Health servers of two homes live beside each other."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first, second = service_processes(["a", "b"], {}, first_port=port)

    ports = [
        int(one.environment["FLEETWAKE_RUNTIME_HEALTH_PORT"]) for one in (first, second)
    ]
    assert port < ports[0] < ports[1]
    assert f"http://127.0.0.1:{ports[0]}/readyz" == first.ready_url


async def test_a_large_log_makes_room_at_a_start(tmp_path: Path) -> None:
    """The one before is kept."""
    log = tmp_path / "logs" / "one.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (11 << 20))
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(spec("one", FOREVER))

    assert log.read_text() == "ready\n"
    assert log.with_name("one.log.1").stat().st_size == 11 << 20


async def test_state_is_always_whole(tmp_path: Path) -> None:
    """A reader never sees half of it, however often it is written."""
    path = tmp_path / "run" / "state.json"
    seen = 0
    async with Supervisor(tmp_path) as supervisor:
        starting = asyncio.create_task(
            supervisor.start(*(spec(f"p{n}", FOREVER) for n in range(3)))
        )
        while not starting.done():
            seen += len(json.loads(path.read_text())["processes"])
            await asyncio.sleep(0)
        await starting

    assert seen > 0


async def test_changes_are_told(tmp_path: Path) -> None:
    """Each one, in order."""
    told: list[str] = []
    async with Supervisor(
        tmp_path, on_change=lambda state: told.append(state.phase)
    ) as supervisor:
        await supervisor.start(spec("one", FOREVER))

    assert told == ["starting", "ready", "stopped"]


async def test_a_process_that_ends_while_stopping_is_not_restarted(
    tmp_path: Path,
) -> None:
    """Whatever its exit code is."""
    clock = FakeClock(waits=1)
    began = time.monotonic()
    async with Supervisor(tmp_path, clock=clock) as supervisor:
        await supervisor.start(spec("one", ENDS.format(0.2, 1)))
        async with asyncio.timeout(20):
            await clock.enough.wait()

    assert supervisor.states[0].phase == "stopped"
    assert time.monotonic() - began < 10
