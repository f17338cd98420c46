"""Who is at work on a storage: one holder of a name at a time, and a second is told who that is.

In a folder it is the kernel's lock of a file, which ends with its process. In an object store it is a lease: an object
written only where there is none, or where it still is in the state that was read. Its holder renews it in the
background. Whoever finds one watches it: renewed, it is somebody's; not renewed for ``LEASE_SECONDS``, its holder is
gone. No two machines' clocks are compared.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rayline.errors import CheckFailed, StorageError
from rayline.storage.objects import Object, Objects, objects
from rayline.storage.places import Place, place_of

LEASE_SECONDS = 20.0
RENEW_SECONDS = 4.0
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds something.

    Attributes:
        host: the machine.
        process: its process id there.
        job: the Ray job that it belongs to; empty for none.
        since: when it took hold, as UTC text.
        boot: of which start of the machine the process id is.
    """

    host: str
    process: int
    job: str
    since: str
    boot: str = ""

    @classmethod
    def this(cls) -> Holder:
        """Return this process as a holder, from now on."""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        return cls(socket.gethostname(), os.getpid(), _job(), since, _boot())

    @classmethod
    def read(cls, text: str | bytes) -> Holder | None:
        """Return the holder that a text names, or None."""
        try:
            raw = json.loads(text)
            return cls(**{name: raw[name] for name in ("host", "process", "job", "since", "boot")})
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def is_gone(self) -> bool:
        """Whether it is certain that the process has ended: it ran on this machine, and there is none any more."""
        here = self.host == socket.gethostname() and self.boot == _boot() and bool(self.boot)
        return here and not Path(f"/proc/{self.process}").exists()

    def __str__(self) -> str:
        """Return it in words."""
        job = f" (job {self.job})" if self.job else ""
        return f"process {self.process} on {self.host}{job}, since {self.since}"


@dataclass
class Hold:
    """What its holder has in hand. ``check`` raises once it was lost."""

    what: str
    lost: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Make sure that nobody else has taken over. Raises ``CheckFailed``."""
        if self.lost:
            raise CheckFailed(self.lost)


@contextmanager
def held(file: Path, what: str) -> Iterator[Hold]:
    """Hold something against everybody else who works with the same storage.

    Where the hold is lost in the middle, because the store could not be reached for longer than a lease lasts and
    another process took over, the main thread is interrupted, and the loss is raised in place of the interrupt.

    Args:
        file: in the storage, which stands for it.
        what: how it is called in messages, such as ``project 'churn'``.

    Raises:
        CheckFailed: somebody else holds it, and who; or the hold was lost.
        StorageError: the store cannot be asked.
    """
    place = place_of(file)
    with _locked(file, what) as hold:
        if place is None:
            yield hold
            return
        lease = _Lease(objects(place.scheme, place.bucket), place, hold)
        lease.take()
        try:
            with _hearing(hold):
                yield hold
        except KeyboardInterrupt:
            hold.check()
            raise
        finally:
            lease.leave()


@contextmanager
def _hearing(hold: Hold) -> Iterator[None]:
    """Have a loss heard where interrupts are ignored, as by what a script starts in the background."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return

    def heard(number: int, frame: object) -> None:
        if hold.lost:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _locked(file: Path, what: str) -> Iterator[Hold]:
    """Hold a file of this machine, or of a shared folder that knows locks."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise _refusal(what, Holder.read(lock.read())) from None
        lock.seek(0)
        lock.truncate()
        lock.write(json.dumps(asdict(Holder.this())))
        lock.flush()
        yield Hold(what)


class _Lease:
    """One lease object."""

    def __init__(self, bucket: Objects, place: Place, hold: Hold) -> None:
        self._bucket = bucket
        self._place = place
        self._hold = hold
        self._me = Holder.this()
        self._token = uuid.uuid4().hex
        self._count = 0
        self._tag = ""
        self._ended = threading.Event()
        self._main = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._renew_all, name="rayline-lease", daemon=True)

    def take(self) -> None:
        """Take it, from nobody or from one who is gone. Raises ``CheckFailed``."""
        seen: Object | None = None
        deadline = 0.0
        while True:
            found = self._bucket.get(self._place.key)
            there = found if isinstance(found, Object) else None
            if there is None or (seen is not None and there.etag == seen.etag and time.monotonic() >= deadline):
                if self._swap(there):
                    return
                continue
            holder = Holder.read(there.data)
            if holder is not None and holder.is_gone and self._swap(there):
                return
            if seen is not None and there.etag != seen.etag:
                raise _refusal(self._hold.what, holder)
            if seen is None:
                seen, deadline = there, time.monotonic() + LEASE_SECONDS
            time.sleep(LOOK_SECONDS)

    def leave(self) -> None:
        """Let go of it, where it is still ours."""
        self._ended.set()
        self._thread.join(timeout=LEASE_SECONDS)
        if not self._hold.lost:
            with suppress(StorageError):  # who comes next waits until it has run out
                self._bucket.delete([self._place.key])

    def _swap(self, there: Object | None) -> bool:
        tag = self._bucket.swap(self._place.key, self._content(), there.etag if there is not None else None)
        if tag is None:
            return False
        self._tag = tag
        self._thread.start()
        return True

    def _content(self) -> bytes:
        self._count += 1
        return json.dumps({**asdict(self._me), "token": self._token, "renewed": self._count}).encode()

    def _renew_all(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                tag = self._bucket.swap(self._place.key, self._content(), self._tag)
            except StorageError:  # while it is away nobody can take over, and nothing can be written either
                continue
            if tag is None:
                self._lose(self._taken())
                return
            self._tag = tag

    def _taken(self) -> str:
        with suppress(StorageError):
            found = self._bucket.get(self._place.key)
            if isinstance(found, Object):
                return f"{self._hold.what} was taken over by {Holder.read(found.data)}"
        return f"the hold on {self._hold.what} was taken away"

    def _lose(self, why: str) -> None:
        self._hold.lost = (
            f"{why.rstrip('.')}. This process stops here; what it had finished is kept. Run the same command again to "
            "go on."
        )
        if self._main and not self._ended.is_set():
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)  # what it waits for ends, which a flag alone would not do


def _refusal(what: str, holder: Holder | None) -> CheckFailed:
    return CheckFailed(
        f"{what} is being run by {holder or 'another process'}. "
        "Wait until it ends, or stop it and run the same command again: it resumes."
    )


def _job() -> str:
    """Return the Ray job that this process is the driver of, or empty."""
    try:
        raw = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return str(raw.get("metadata", {}).get("job_submission_id", ""))
    except (ValueError, AttributeError):
        return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() + os.readlink(
            "/proc/self/ns/pid"
        )
    except OSError:
        return ""
