"""A job on a Ray cluster that runs: submitted through its job API, its log followed, its result the command's."""

import asyncio
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from gan_distributed import command
from gan_distributed.deployment.job import Job
from gan_distributed.errors import InputError, TrainingError

# A head answers before its agent is there to take jobs.
_AGENT_S = 60.0
_POLL_S = 1.0
# How often a log that broke off is taken up again while the cluster answers nothing else either.
_TRIES = 10


def run_job(address: str, job: Job) -> int:
    """Submit the job, print its log to stdout, and return its exit code. Raises InputError, TrainingError.

    The files of the job travel with it and lie where its command runs. An interrupted command leaves the job running.
    """
    # Ray turns its token authentication on by itself where it finds a token; a cluster without wants none.
    os.environ.setdefault("RAY_AUTH_MODE", "token" if "RAY_AUTH_TOKEN" in os.environ else "disabled")
    client = _connected(address)
    submission = f"{job.name}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="gan-distributed-") as folder:
        for name, text in job.files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        _submit(client, submission, job, {"working_dir": folder} if job.files else {})
    command.say(f"job {submission} on {address}")
    try:
        _follow(client, submission)
        return _result(client, submission)
    except KeyboardInterrupt:
        command.say(f"the job goes on; `ray job stop --address {address} {submission}` ends it with a last checkpoint")
        raise


def _connected(address: str) -> Any:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise InputError(
            f"--ray {address}: the cluster wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    # requests' own errors are OSErrors; the client makes RuntimeErrors and ValueErrors of answers that are not Ray's.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--ray {address}: no Ray answers there ({str(error).splitlines()[0]}); give its dashboard, as "
            "http://HEAD:8265"
        ) from error


def _submit(client: Any, submission: str, job: Job, runtime_env: dict[str, str]) -> None:
    deadline = time.monotonic() + _AGENT_S
    while True:
        try:
            client.submit_job(entrypoint=job.entrypoint, submission_id=submission, runtime_env=runtime_env)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise TrainingError(f"the cluster did not take the job: {str(error).splitlines()[-1]}") from error
            time.sleep(_POLL_S)
        else:
            return


def _follow(client: Any, submission: str) -> None:
    """Print the log until the job has ended, whatever breaks on the way."""
    shown, failed = 0, 0
    while True:
        try:
            shown = asyncio.run(_tail(client, submission, shown))
            ended = client.get_job_status(submission).is_terminal()
            failed = 0
        except (OSError, RuntimeError) as error:
            failed += 1
            if failed == _TRIES:
                raise TrainingError(
                    f"the cluster answers no more ({str(error).splitlines()[0]}); the same command goes on from the "
                    "last checkpoint"
                ) from error
            ended = False
        if ended:
            return
        time.sleep(_POLL_S)


async def _tail(client: Any, submission: str, shown: int) -> int:
    """Print what came after the first `shown` characters of the log; how many there are now."""
    seen = 0
    async for part in client.tail_job_logs(submission):
        sys.stdout.write(part[max(0, shown - seen) :])
        sys.stdout.flush()
        seen += len(part)
    return max(shown, seen)


def _result(client: Any, submission: str) -> int:
    info = client.get_job_info(submission)
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    if info.status == "SUCCEEDED":
        return 0
    if info.status == "STOPPED":
        return command.EXIT_TERMINATED
    raise TrainingError(f"job {submission}: {str(info.message or info.status).splitlines()[0]}")
