"""The door to a cluster's job server: its HTTP interface, and each of its failures told by cause."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from rayline.auth_token import NONE, Token
from rayline.errors import ClusterError, NotFoundError, suggestion
from rayline.jobs.address import on_loopback
from rayline.jobs.job import Job

TIMEOUT_S = 60.0
RAY = (2, 60)
"""The minor version of Ray that this Rayline runs on."""


class Unreachable(ClusterError):
    """Nothing answers at the job server's address: it may be coming back."""


class JobServer:
    """One cluster's job server.

    Args:
        url: as ``address.job_server`` gives it.
        token: sent with each request, where there is one.
    """

    def __init__(self, url: str, token: Token = NONE) -> None:
        self.url = url
        self.token = token
        self._headers = {"Authorization": f"Bearer {token.value}"} if token.value else {}
        # What stands on this machine is not asked through a proxy of the shell's.
        self._http = httpx.Client(
            base_url=url, headers=self._headers, timeout=TIMEOUT_S, trust_env=not on_loopback(url)
        )

    def check(self) -> str:
        """Return the cluster's Ray version.

        Raises:
            Unreachable: nothing listens there.
            ClusterError: it is no job server, it refuses the token, or its Ray is another than ours.
        """
        answer = self._ask("GET", "/api/version")
        try:
            version = str(answer.json()["ray_version"])
        except (ValueError, KeyError, TypeError):
            raise ClusterError(_no_dashboard(self.url, "its answer is not that of a Ray dashboard")) from None
        if tuple(version.split(".")[:2]) != tuple(map(str, RAY)):
            wanted = ".".join(map(str, RAY))
            raise ClusterError(
                f"the cluster at {self.url} runs Ray {version}, and this Rayline runs on {wanted}: the job would fail "
                f"there. Use a cluster image with ray=={wanted}.*, or the Rayline release for Ray {version}."
            )
        return version

    def on_this_machine(self, hostname: str) -> bool:
        """Tell whether the cluster's head is this machine, and not one behind a tunnel."""
        if not on_loopback(self.url):
            return False
        nodes = self._json("GET", "/nodes?view=summary")["data"]["summary"]
        return any(each.get("hostname") == hostname and _is_head(each) for each in nodes)

    def holds(self, package: str) -> bool:
        """Tell whether the cluster has a package already, and keep it there for the job to come."""
        return self._ask("GET", f"/api/packages/gcs/{package}", missing=True).status_code == 200

    def put(self, package: str, content: bytes) -> None:
        """Upload a package."""
        self._ask("PUT", f"/api/packages/gcs/{package}", content=content)

    def submit(self, request: dict[str, Any]) -> str:
        """Send a job; return its id."""
        return str(self._json("POST", "/api/jobs/", json=request)["submission_id"])

    def jobs(self) -> list[Job]:
        """Return every job that was submitted, the latest first."""
        found = [Job.read(each) for each in self._json("GET", "/api/jobs/") if each.get("type") == "SUBMISSION"]
        return sorted(found, key=lambda each: each.began or 0, reverse=True)

    def job(self, name: str) -> Job:
        """Return one job. Raises ``NotFoundError``."""
        answer = self._ask("GET", f"/api/jobs/{name}", missing=True)
        if answer.status_code == 404:
            known = [each.id for each in self.jobs()]
            raise NotFoundError(f"unknown job '{name}' at {self.url}. {suggestion(name, known)}")
        return Job.read(answer.json())

    def logs(self, name: str) -> str:
        """Return all that a job has printed."""
        return str(self._json("GET", f"/api/jobs/{name}/logs")["logs"])

    def stop(self, name: str) -> bool:
        """Ask a job to end; False where it had ended."""
        return bool(self._json("POST", f"/api/jobs/{name}/stop")["stopped"])

    def follow(self, name: str, hear: Callable[[str], None]) -> None:
        """Hand on what a job prints, in pieces, until it ends or the connection does."""
        asyncio.run(self._follow(name, hear))

    async def _follow(self, name: str, hear: Callable[[str], None]) -> None:
        import aiohttp

        address = f"{self.url}/api/jobs/{name}/logs/tail"
        with suppress(aiohttp.ClientError, OSError):  # what became of the job is asked next
            async with aiohttp.ClientSession(headers=self._headers) as session, session.ws_connect(address) as socket:
                async for message in socket:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        hear(message.data)

    def ended(self, name: str, within: float) -> Job:
        """Return a job once it has ended, or as it is after ``within`` seconds."""
        deadline = time.monotonic() + within
        while True:
            job = self.job(name)
            if job.ended or time.monotonic() > deadline:
                return job
            time.sleep(0.2)

    def _json(self, method: str, path: str, **kwargs: Any) -> Any:
        return self._ask(method, path, **kwargs).json()

    def _ask(self, method: str, path: str, *, missing: bool = False, **kwargs: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **kwargs)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(
                f"nothing listens at {self.url} ({_reason(error)}). Check host and port; the job server is the "
                "dashboard of the head (`ray start --head` says where, port 8265 by default)."
            ) from error
        except httpx.RemoteProtocolError as error:
            raise ClusterError(_no_dashboard(self.url, f"it does not speak HTTP ({_reason(error)})")) from error
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self.url} did not answer within {TIMEOUT_S:.0f} s.") from error
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url} broke off the connection ({_reason(error)}).") from error
        self._refuse(answer, missing)
        return answer

    def _refuse(self, answer: httpx.Response, missing: bool) -> None:
        if answer.is_success or (missing and answer.status_code == 404):
            return
        if answer.status_code == 401:
            why = "the one sent was not taken" if self.token.value else self.token.source
            raise ClusterError(
                f"the cluster at {self.url} asks for a token, and {why}. "
                "Set RAY_AUTH_TOKEN_PATH to the file that the cluster was started with."
            )
        if answer.status_code == 403:
            raise ClusterError(
                f"the cluster at {self.url} refuses the token from {self.token.source}: it was started with another "
                "one. Set RAY_AUTH_TOKEN_PATH to that cluster's file."
            )
        if answer.status_code in (404, 405):
            raise ClusterError(_no_dashboard(self.url, f"it answers {answer.status_code} to {answer.request.url.path}"))
        raise ClusterError(f"the job server at {self.url} answered {answer.status_code}: {_said(answer.text)}")


def _no_dashboard(url: str, why: str) -> str:
    return (
        f"what listens at {url} is not a Ray dashboard: {why}. The job server is the dashboard's port (8265 by "
        "default), not the control port that `ray.init` takes (6379 by default) nor a service's."
    )


def _is_head(node: dict[str, Any]) -> bool:
    return bool(node.get("raylet", {}).get("isHeadNode", True))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _said(text: str) -> str:
    """Return of a server's traceback the error that it ends in."""
    with suppress(ValueError):
        text = str(json.loads(text).get("msg", text))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
