"""Workers that find each other, miss each other, and a cluster on this machine (chapter 15).

``TF_CONFIG`` names the workers of a cluster; `tfae.distribute` says how to set it. `Cluster` reads it and lets the
workers meet before TensorFlow waits for them, `watched_peers` names those that are lost on the way, and `run_cluster`
starts several workers as processes of one machine.
"""

import gc
import inspect
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfae.checks import check_size

# --- the cluster -----------------------------------------------------------------------------------------------------

FORM = '{"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", "index": 0}}'
THANKS = b"thanks\n"


class _MismatchError(ValueError):
    """Two workers contradict each other."""


@dataclass(frozen=True)
class Cluster:
    """What ``TF_CONFIG`` says: the addresses of all workers, the chief's first, and which of them this process is.

    Attributes
    ----------
    addresses : tuple of str
        ``"host:port"`` of each worker.
    index : int
        Of this process in `addresses`.
    """

    addresses: tuple[str, ...]
    index: int

    def __str__(self) -> str:
        return f"worker {self.index} of {', '.join(self.addresses)}"

    @classmethod
    def from_environment(cls) -> "Cluster | None":
        """Read ``TF_CONFIG``; None where it is not set or empty.

        Raises
        ------
        ValueError
            If it is not JSON of the form above, names an address twice, or no worker that this process could be.
        """
        text = os.environ.get("TF_CONFIG", "").strip()
        return cls.from_json(text) if text not in ("", "{}") else None

    @classmethod
    def from_json(cls, text: str) -> "Cluster":
        """Read the text of a ``TF_CONFIG``."""
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"TF_CONFIG is not JSON ({error}): {text!r}. It must have the form {FORM}") from error
        parts = []
        for key in ("cluster", "task"):
            part = config.get(key) if isinstance(config, dict) else None
            if not isinstance(part, dict) or not part:
                raise ValueError(f"TF_CONFIG has no {key!r}: {text!r}. It must have the form {FORM}")
            parts.append(part)
        cluster, task = parts
        if unknown := sorted(set(cluster) - {"chief", "worker"}):
            raise ValueError(f"TF_CONFIG names the jobs {', '.join(unknown)}; the known ones are chief, worker")
        jobs = {job: cluster.get(job, []) for job in ("chief", "worker")}
        if not all(isinstance(addresses, list) for addresses in jobs.values()) or len(jobs["chief"]) > 1:
            raise ValueError(f"TF_CONFIG must list the addresses of the workers, and at most one chief: {cluster}")
        addresses = [*jobs["chief"], *jobs["worker"]]
        for address in addresses:
            _host_and_port(address)
            if addresses.count(address) > 1:
                raise ValueError(f"TF_CONFIG names {address} twice; each worker needs an address of its own")
        job, index = str(task.get("type")), task.get("index")
        if not jobs.get(job):
            raise ValueError(f"TF_CONFIG says that this is a {job!r}, and the cluster has {_counts(jobs)}")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(jobs[job]):
            raise ValueError(
                f"TF_CONFIG says that this is {job} {index!r}, and the cluster has {_counts(jobs)}; the index must be "
                f"a whole number from 0 to {len(jobs[job]) - 1}"
            )
        return cls(tuple(addresses), index + (len(jobs["chief"]) if job == "worker" else 0))

    def meet(self, timeout: float) -> None:
        """Wait until every worker has heard from every other and all have been given the same addresses.

        TensorFlow itself waits for an hour, and then does not say for whom.

        Raises
        ------
        ValueError
            If another worker has other addresses or says that it is somebody else.
        TimeoutError
            If a worker does not answer within `timeout` seconds.
        OSError
            If this worker's port is taken.
        """
        others = {i: address for i, address in enumerate(self.addresses) if i != self.index}
        reached: set[int] = set()
        heard: set[int] = set()
        wrong: list[_MismatchError] = []
        trouble = dict.fromkeys(others, "no answer")
        deadline = time.monotonic() + timeout
        with self._listening() as door:
            closing = threading.Event()
            porter = threading.Thread(target=self._answer, args=(door, closing, heard, wrong))
            porter.start()
            try:
                while not reached == heard == set(others):
                    for i in set(others) - reached:
                        try:
                            self._check(_ask(others[i], self._hello()), i)
                            reached.add(i)
                        except OSError as error:
                            trouble[i] = str(error)
                    if wrong:
                        raise wrong[0]
                    if time.monotonic() > deadline:
                        raise TimeoutError(self._missing(others, reached, heard, trouble, timeout))
                    time.sleep(0.05)
            finally:
                closing.set()
                porter.join()

    def who_is_gone(self) -> str:
        """Say which workers do not answer any more, and how to go on."""
        gone = []
        for i, address in enumerate(self.addresses):
            try:
                socket.create_connection(_host_and_port(address), timeout=2).close()
            except OSError as error:
                gone.append(f"worker {i} at {address} ({error})")
        return (
            f"worker {self.index} at {self.addresses[self.index]} cannot train on without its peers: "
            + (
                "these are gone: " + ", ".join(gone)
                if gone
                else "all accept connections, so one hangs or has been stopped"
            )
            + ". Its own output says why. Start all workers again; with tfae.training.Resume among the callbacks they "
            "go on after the last finished epoch."
        )

    def _listening(self) -> socket.socket:
        _, port = _host_and_port(self.addresses[self.index])
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("", port))
        except OSError as error:
            door.close()
            raise OSError(
                error.errno,
                f"{self} cannot use port {port}: {error.strerror}. Is a worker of an earlier run still there?",
            ) from error
        door.listen()
        door.settimeout(0.1)
        return door

    def _hello(self) -> bytes:
        return json.dumps({"addresses": self.addresses, "index": self.index}).encode() + b"\n"

    def _answer(self, door: socket.socket, closing: threading.Event, heard: set[int], wrong: list) -> None:
        """Let in who knocks, one after the other, until the door closes."""
        while not closing.is_set():
            try:
                knock, _ = door.accept()
                with knock:
                    knock.settimeout(2)
                    lines = knock.makefile("rb")
                    hello = json.loads(lines.readline(100_000))
                    knock.sendall(self._hello())
                    self._check(hello)
                    if lines.readline(100) == THANKS:  # else the answer came too late, and the other asks again
                        heard.add(hello["index"])
            except _MismatchError as error:
                wrong.append(error)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # nobody knocked, or a stranger: a port scan, a health check

    def _check(self, hello: dict[str, Any], index: int | None = None) -> None:
        """Compare what another worker says of itself with what is known here."""
        theirs, other = tuple(hello["addresses"]), hello["index"]
        if theirs != self.addresses:
            raise _MismatchError(
                f"the workers have been given different clusters: TF_CONFIG names {list(self.addresses)} here, on "
                f"worker {self.index}, and {list(theirs)} on worker {other}. All need the same, in one order."
            )
        if other == self.index or index not in (None, other):
            raise _MismatchError(f"two processes say that they are worker {other}: each needs an index of its own")

    def _missing(self, others: dict, reached: set, heard: set, trouble: dict, timeout: float) -> str:
        lines = [
            f"worker {i} at {address}: " + (trouble[i] if i not in reached else "it answers but cannot reach this one")
            for i, address in others.items()
            if i not in reached & heard
        ]
        return (
            f"worker {self.index} at {self.addresses[self.index]} waited {timeout:g} s for the others. "
            + "; ".join(lines)
            + ". Check that the process runs there, that its TF_CONFIG has the same 'cluster' and that 'index', that "
            "the host name resolves and that no firewall closes the port in either direction."
        )


@contextmanager
def watched_peers() -> Iterator[None]:
    """Name the workers that are gone when an exchange with them breaks off.

    Raises
    ------
    ConnectionError
        In place of TensorFlow's error, which does not say whose process ended and what to do.
    """
    try:
        yield
    except tf.errors.OpError as error:
        cluster = Cluster.from_environment()
        lost = isinstance(error, tf.errors.UnavailableError) or "Collective ops is aborted" in str(error)
        if cluster is None or not lost:
            raise
        raise ConnectionError(cluster.who_is_gone()) from error


def _host_and_port(address: Any) -> tuple[str, int]:
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"TF_CONFIG names the address {address!r}; it must be 'host:port', such as '10.0.0.1:2222'")
    return host.strip("[]"), int(port)


def _counts(jobs: dict[str, list]) -> str:
    return " and ".join(f"{len(addresses)} of job {job!r}" for job, addresses in jobs.items() if addresses) or "no jobs"


def _ask(address: str, hello: bytes) -> dict[str, Any]:
    with socket.create_connection(_host_and_port(address), timeout=5) as connection:
        connection.sendall(hello)
        try:
            answer = json.loads(connection.makefile("rb").readline(100_000))
            known = {"addresses": answer["addresses"], "index": answer["index"]}
        except (ValueError, KeyError, TypeError):
            raise OSError("something else answers there, perhaps a worker of an earlier run") from None
        connection.sendall(THANKS)
    return known


# --- a cluster on this machine ---------------------------------------------------------------------------------------


class ClusterError(RuntimeError):
    """A worker of `run_cluster` failed.

    Attributes
    ----------
    exits : list of int
        Exit status of each worker; negative for a signal, -9 for a kill.
    outputs : list of str
        What each worker wrote.
    """

    def __init__(self, message: str, exits: Sequence[Any], outputs: Sequence[str]) -> None:
        super().__init__(message)
        self.exits, self.outputs = list(exits), list(outputs)


def run_cluster(
    function: Callable, *arguments: Any, workers: int = 2, timeout: float = 600.0, grace: float = 60.0
) -> list[Any]:
    """Run a function as each worker of a real cluster: processes of this machine that talk through the loopback.

    Every process gets a ``TF_CONFIG`` of its own and no GPU. It is how the tests and chapter 15 show what several
    machines would do; on these, start the script as the module's first lines say.

    Parameters
    ----------
    function : callable
        Its *source* is run in fresh interpreters, so it imports what it uses itself, begins with
        ``distribute.strategy()`` and sees no variables of the notebook or file it stands in.
    *arguments
        Given to it; they and what it returns are pickled.
    workers : int
    timeout : float
        Seconds until all are stopped.
    grace : float
        Seconds that the others have to end by themselves after one has failed.

    Returns
    -------
    list
        What each worker returned.

    Raises
    ------
    ValueError
        If the source cannot be read or uses variables of an enclosing function.
    ClusterError
        If a worker fails, is killed or does not end in time. The message holds its last lines; no process is left.
    """
    source = _source(function)
    addresses = _free_addresses(check_size(workers, "workers"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "arguments").write_bytes(pickle.dumps(arguments))
        for i in range(workers):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
            (folder / f"config{i}").write_text(json.dumps(config))
        (folder / "workers.py").write_text(source + _RUN_AND_RETURN.format(name=function.__name__))
        with _started(folder, workers) as exits:
            late = _wait(exits, timeout, grace)
        outputs = [_read(folder / f"output{i}") for i in range(workers)]
        ends = exits()
        if late or any(ends):
            raise ClusterError(_what_failed(ends, late, outputs), ends, outputs)
        return [pickle.loads((folder / f"result{i}").read_bytes()) for i in range(workers)]


_RUN_AND_RETURN = """

if __name__ == "__main__":
    from tfae.cluster import _run_and_return
    _run_and_return({name}, __file__)
"""


def _run_and_return(function: Callable, script: str) -> None:
    """Be the worker whose number the script was given; of several, be each in a process of its own.

    These are forked, so that what has been imported by now, some 300 MB, is in memory once.
    """
    folder, numbers, workers = Path(script).parent, sys.argv[1:], {}
    gc.freeze()  # what is searched for garbage is written to, and would not be shared any more
    for i in numbers:
        with warnings.catch_warnings(action="ignore"):  # of NumPy's threads, which know how to begin anew
            worker = os.fork() if len(numbers) > 1 else 0
        if not worker:
            break
        workers[worker] = i
    if worker:
        while workers:
            ended, status = os.wait()
            (folder / f"exit{workers.pop(ended)}").write_text(str(os.waitstatus_to_exitcode(status)))
        return
    output = os.open(folder / f"output{i}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["TF_CONFIG"] = (folder / f"config{i}").read_text()
    result = function(*pickle.loads((folder / "arguments").read_bytes()))
    (folder / f"result{i}").write_bytes(pickle.dumps(result))


def _source(function: Callable) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise ValueError(
            f"the source of {function!r} cannot be read; write it with def, in a file or a cell"
        ) from error
    if not source.startswith("def ") or function.__closure__:
        raise ValueError(
            f"{function!r} cannot run in another process: give a plain function, written with def, that takes what it "
            f"needs as arguments and imports what it uses"
        )
    return source


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


@contextmanager
def _started(folder: Path, workers: int) -> Iterator[Callable[[], list[int | None]]]:
    """Start the workers, and leave none behind; give a function that says of each how it ended, None if it has not."""
    forked = sys.platform == "linux" and workers > 1  # elsewhere forks are not safe, or do not exist
    groups = [list(range(workers))] if forked else [[i] for i in range(workers)]
    processes: list[subprocess.Popen] = []

    def exits() -> list[int | None]:
        return [
            int(ended) if (ended := _read(folder / f"exit{i}")) else process.poll()
            for process, group in zip(processes, groups, strict=True)
            for i in group
        ]

    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHON_COLORS": "0",  # what a worker says is read by programs as well
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    try:
        for group in groups:
            command = [sys.executable, str(folder / "workers.py"), *map(str, group)]
            with open(folder / f"output{group[0]}", "w") as output:  # until a worker opens its own
                processes.append(
                    subprocess.Popen(
                        command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=forked
                    )
                )
        yield exits
    finally:
        for process in processes:
            if forked:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        for process in processes:
            process.wait()


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _wait(exits: Callable[[], list[int | None]], timeout: float, grace: float) -> list[int]:
    """Wait for all to end; return the numbers of those that did not."""
    deadline = time.monotonic() + timeout
    failed = False
    while None in (ends := exits()):
        if not failed and any(ends):
            failed, deadline = True, min(deadline, time.monotonic() + grace)
        if time.monotonic() > deadline:
            return [i for i, end in enumerate(ends) if end is None]
        time.sleep(0.05)
    return []


def _what_failed(exits: Sequence[Any], late: list[int], outputs: list[str]) -> str:
    def fate(i: int) -> str:
        if i in late:
            return "did not end in time and was stopped"
        if exits[i] < 0:
            return f"was killed by {signal.Signals(-exits[i]).name}"
        return "ended well" if exits[i] == 0 else f"ended with status {exits[i]}"

    parts = []
    for i in range(len(exits)):
        tail = outputs[i].strip().splitlines()[-12:] if i in late or exits[i] else []
        parts += [f"worker {i} {fate(i)}" + (":" if tail else ""), *(f"    {line}" for line in tail)]
    return "\n".join(parts)
