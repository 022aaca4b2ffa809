"""The verb `submit`: a recipe as a job on Kubernetes, printed for `kubectl apply -f -`, or on a Ray cluster that runs.

gan-distributed submit jobs/cifar10-r3gan.yaml --image REGISTRY/gan-distributed:0.1.0 --workers 8 | kubectl apply -f -
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_distributed import command
from gan_distributed.errors import InputError

if TYPE_CHECKING:
    from gan_distributed.config import Config
    from gan_distributed.deployment.job import Job

IMAGE = "registry.example.com/gan-distributed:0.1.0"


def submit(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file such as jobs/cifar10-r3gan.yaml.")],
    image: Annotated[str, typer.Option(help="Image of every pod, with a tag or digest.")] = IMAGE,
    workers: Annotated[
        int | None, typer.Option(help="Pods of workers.", show_default="those of the recipe, else 1")
    ] = None,
    gpus_per_worker: Annotated[
        int | None, typer.Option(help="GPUs of one pod, each for one process; 0: CPUs only.", show_default="1")
    ] = None,
    cpus_per_worker: Annotated[
        int | None, typer.Option(help="CPUs of one pod.", show_default="7 a GPU, 4 without")
    ] = None,
    memory_gib: Annotated[
        int | None, typer.Option(help="Memory of one pod.", show_default="24 a GPU, 12 without")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data set: gs://, s3://.")] = None,
    output: Annotated[str | None, typer.Option(help="Bucket that holds the runs.")] = None,
    run_id: Annotated[
        str | None, typer.Option(help="Name of the run; the same name resumes it.", show_default="the recipe's")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.field=value, over the recipe.")] = None,
    prepare: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Instead of training: make --data from these images.")
    ] = None,
    resolution: Annotated[int, typer.Option(help="Side of the images that --prepare makes.")] = 64,
    name: Annotated[str | None, typer.Option(help="Name of the job.", show_default="gan- and the run's")] = None,
    queue: Annotated[str | None, typer.Option(help="Kueue's queue, in which the job waits for room.")] = None,
    spot: Annotated[
        bool, typer.Option("--spot", help="Workers on GKE's spot nodes, with their shorter grace.")
    ] = False,
    google_account: Annotated[
        str | None, typer.Option(help="Google service account whose rights the pods have (Workload Identity).")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on the Ray cluster at http://HEAD:8265 instead, and follow its log."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong, or that nothing is.")] = False,
) -> int:
    """Print a job as Kubernetes documents, or run it on a Ray cluster.

    The documents are checked first: what breaks a rule is told in a line each, and nothing is printed.

    Example: gan-distributed submit jobs/cifar10-r3gan.yaml --workers 2
    """
    from gan_distributed.deployment.commands import prepare_words, train_words, with_absolute_places
    from gan_distributed.deployment.job import CONFIG_FOLDER, RECIPE_FILE, SPOT_DEADLINES, Deadlines, Job, pod_of
    from gan_distributed.deployment.recipe_text import read_recipe
    from gan_distributed.training.layout import advice

    text, config = read_recipe(recipe, set_ or [], {"data.url": data, "output": output, "run_id": run_id})
    gpus = (0 if prepare else 1) if gpus_per_worker is None else gpus_per_worker
    _check_at_least(("--workers", workers, 1), ("--gpus-per-worker", gpus, 0), ("--memory-gib", memory_gib, 1))
    _check_at_least(("--cpus-per-worker", cpus_per_worker, 1), ("--resolution", resolution, 8))
    num_pods = _num_pods(config, max(1, gpus)) if workers is None else workers
    ranks, run = num_pods * max(1, gpus), config.run_id or Path(recipe).stem
    if ray is not None:
        config = with_absolute_places(config)
    if prepare is not None:
        words, files = prepare_words(config, prepare, resolution, in_pods=ray is None), {}
    else:
        place = RECIPE_FILE if ray is not None else f"{CONFIG_FOLDER}/{RECIPE_FILE}"
        words = train_words(config, place, run, ranks, set_ or [], in_pods=ray is None)
        files = {RECIPE_FILE: text}
        for line in advice(config, ranks, use_gpu=gpus > 0):
            command.say(line)
    job = Job(
        name=name or _name_of(f"gan-{'prepare-' if prepare else ''}{run}"),
        component="prepare" if prepare else "train",
        image=image,
        words=words,
        num_pods=num_pods,
        pod=pod_of(gpus, cpus_per_worker, memory_gib),
        files=files,
        queue=queue,
        spot=spot,
        google_account=google_account,
        deadlines=SPOT_DEADLINES if spot else Deadlines(),
    )
    return _print(job, dry_run) if ray is None else _run_on_ray(job, ray, dry_run)


def _num_pods(config: "Config", ranks_each: int) -> int:
    """Pods for the processes that the recipe asks for."""
    return 1 if config.cluster.worker_range is None else max(1, config.cluster.worker_range[1] // ranks_each)


def _check_at_least(*options: tuple[str, int | None, int]) -> None:
    for option, value, least in options:
        if value is not None and value < least:
            raise InputError(f"{option} {value}: give {least} or more")


def _name_of(words: str) -> str:
    """A name as Kubernetes wants it."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:47].rstrip("-")


def _print(job: "Job", dry_run: bool) -> int:
    from gan_distributed.deployment.documents import documents
    from gan_distributed.deployment.manifest_text import to_text
    from gan_distributed.deployment.rules import violations

    made = documents(job)
    wrong = violations(made)
    for line in wrong:
        command.say(f"error: {line}")
    if wrong:
        return InputError.exit_code
    if dry_run:
        kinds = ", ".join(each["kind"] for each in made)
        command.say(f"{job.name}: {kinds}; {job.num_pods} worker pods; no rule is broken")
        return 0
    sys.stdout.write(to_text(made, f"Made by gan-distributed submit; {job.num_pods} worker pods run {job.entrypoint}"))
    return 0


def _run_on_ray(job: "Job", address: str, dry_run: bool) -> int:
    from gan_distributed.deployment.job_client import run_job

    if dry_run:
        command.say(f"{address} would run: {job.entrypoint}")
        return 0
    return run_job(address, job)


if __name__ == "__main__":
    command.run(submit)
