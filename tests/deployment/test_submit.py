"""`submit` as a user calls it: options arrive where they belong, mistakes are one line and print nothing."""

import itertools
import shlex
import string

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kube import ROOT, pods_of, ray_job_mistakes, ray_jobs
from submitting import PLACES, RECIPE, submitted

from gan_distributed.deployment.rules import violations
from gan_distributed.errors import GanError


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def words_of(ended):
    return shlex.split(ray_jobs(ended.documents)[0]["spec"]["entrypoint"])


def option(ended, name):
    words = words_of(ended)
    return words[words.index(name) + 1]


def test_options_arrive_where_they_belong():
    ended = submitted(
        RECIPE, *PLACES, "--workers", "4", "--gpus-per-worker", "2", "--image", "r.io/gan:1", "--run-id", "Cifar_10.a",
        "--queue", "research", "--spot", "--google-account", "a@b.iam", "--set", "loss.r1_gamma=0.1",
    )  # fmt: skip
    job = ray_jobs(ended.documents)[0]
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    container = workers["template"]["spec"]["containers"][0]
    assert job["metadata"]["name"] == "gan-cifar-10-a"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert job["spec"]["suspend"] is True
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 4
    assert container["image"] == "r.io/gan:1"
    assert container["resources"]["limits"] == {"cpu": "14", "memory": "48Gi", "nvidia.com/gpu": "2"}
    assert [port["containerPort"] for port in container["ports"]] == [8080, 9400, 9401]
    assert workers["template"]["spec"]["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert (option(ended, "--data"), option(ended, "--output")) == ("gs://bucket/set", "gs://bucket/runs")
    assert (option(ended, "--run-id"), option(ended, "--workers")) == ("Cifar_10.a", "8")
    assert option(ended, "--set") == "loss.r1_gamma=0.1"
    account = next(each for each in ended.documents if each["kind"] == "ServiceAccount")
    assert account["metadata"]["annotations"] == {"iam.gke.io/gcp-service-account": "a@b.iam"}


def test_the_recipe_travels_as_it_is():
    files = next(each for each in submitted(RECIPE, *PLACES).documents if each["kind"] == "ConfigMap")
    assert files["data"] == {"recipe.yaml": (ROOT / RECIPE).read_text()}


def test_local_batch_and_useful_workers_are_named():
    said = submitted(RECIPE, *PLACES, "--workers", "8").stderr
    assert "largest batch, of 64 images: an efficiency of 100% at most; largest useful number of workers: 32" in said
    uneven = submitted(RECIPE, *PLACES, "--workers", "7").stderr
    assert "largest batch, of 80 images: an efficiency of 91% at most" in uneven
    assert "numbers of workers with equal ones: 1, 2, 4, 8, 16, 32, 64" in uneven
    assert "32 workers are enough" in submitted(RECIPE, *PLACES, "--workers", "64").stderr


def test_prepare_is_a_job_of_its_own():
    ended = submitted(RECIPE, *PLACES, "--prepare", "gs://bucket/raw.zip", "--resolution", "32", "--workers", "3")
    job = ray_jobs(ended.documents)[0]
    assert job["metadata"]["name"] == "gan-prepare-cifar10-r3gan"
    assert words_of(ended)[2:] == [
        "gan_distributed.prepare",
        "gs://bucket/raw.zip",
        "gs://bucket/set",
        "--resolution",
        "32",
        "--metrics-port",
        "9390",
        "--metrics-linger",
        "20",
    ]
    assert "nvidia.com/gpu" not in ended.stdout
    assert "ConfigMap" not in [each["kind"] for each in ended.documents]


def linger_of(*words):
    """How the command of a job says for how long it stays for a last scrape."""
    entrypoint = words_of(submitted(RECIPE, *PLACES, *words))
    return [" ".join(pair) for pair in itertools.pairwise(entrypoint) if "linger" in " ".join(pair)][-1]


def test_jobs_stay_for_a_last_scrape_as_long_as_the_recipe_says_or_as_prometheus_takes():
    assert linger_of() == "--set metrics.linger_s=20"
    assert linger_of("--set", "metrics.linger_s=0") == "--set metrics.linger_s=0"
    assert linger_of("--set", "metrics.linger_s=90") == "--set metrics.linger_s=90"
    data = ["--prepare", "gs://bucket/raw.zip"]
    assert linger_of(*data) == "--metrics-linger 20"
    assert linger_of(*data, "--set", "metrics.linger_s=90") == "--metrics-linger 90"


def test_a_data_job_tells_what_the_recipe_says_of_metrics():
    data = ["--prepare", "gs://bucket/raw.zip"]
    pushed = submitted(RECIPE, *PLACES, *data, "--set", "metrics.pushgateway=http://push:9091")
    assert option(pushed, "--pushgateway") == "http://push:9091"
    silent = words_of(submitted(RECIPE, *PLACES, *data, "--set", "metrics.controller_port=null"))
    assert not [word for word in silent if "metrics" in word]


def test_the_command_logs_for_machines_in_pods():
    head = pods_of(submitted(RECIPE, *PLACES).documents)[0]
    assert {"name": "GAN_DISTRIBUTED_LOG_FORMAT", "value": "json"} in head["spec"]["containers"][0]["env"]


def test_dry_run_prints_no_documents():
    ended = submitted(RECIPE, *PLACES, "--workers", "8", "--dry-run")
    assert (ended.code, ended.stdout) == (0, "")
    assert "gan-cifar10-r3gan: ServiceAccount, ConfigMap" in ended.stderr
    assert ended.stderr.splitlines()[-1].endswith("8 worker pods; no rule is broken")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--image", "r.io/gan:latest"], "tag other than latest"),
        (["--workers", "65"], "65 workers are more than data.num_lanes 64"),
        (["--workers", "4", "--set", "cluster.workers=3"], "cluster.workers 3, the command 4"),
        (["--memory-gib", "3"], "give --memory-gib 6"),
        (["--name", "Run_1"], "another --name"),
        (["--output", "runs"], "give a bucket"),
    ],
)
def test_broken_rules_end_with_2_and_nothing_printed(words, told):
    for more in ([], ["--dry-run"]):
        ended = submitted(RECIPE, *PLACES, *words, *more)
        assert (ended.code, ended.stdout) == (2, "")
        assert [told in line for line in ended.stderr.splitlines() if line.startswith("error: ")] == [True]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([RECIPE, "--output", "gs://b/r"], "data.url: no data set"),
        ([RECIPE, "--data", "gs://b/d"], "output: nowhere to write"),
        (["/nowhere.yaml", *PLACES], "cannot be read"),
        ([RECIPE, *PLACES, "--workers", "0"], "--workers 0: give 1 or more"),
        ([RECIPE, *PLACES, "--gpus-per-worker", "-1"], "--gpus-per-worker -1: give 0 or more"),
        ([RECIPE, *PLACES, "--set", "loss.name=bse"], "loss.name"),
        ([RECIPE, *PLACES, "--set", "data.storage_options={key: x}"], "may hold secrets"),
        ([RECIPE, *PLACES, "--prepare", "photos"], "a path on this machine"),
        ([RECIPE, *PLACES, "--data", "s3://a:secret@b/d"], "password"),
    ],
)
def test_wrong_input_is_one_error(words, told):
    ended = submitted(*words)
    assert isinstance(ended.error, GanError)
    assert ended.error.exit_code == 2
    assert told in str(ended.error)
    assert "secret@" not in str(ended.error)
    assert ended.stdout == ""


NAMES = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=60).filter(
    lambda name: name[0].isalnum()
)


@settings(max_examples=10, deadline=None, phases=[Phase.generate])
@given(
    pods=st.integers(1, 70),
    gpus=st.integers(0, 8),
    run_id=NAMES,
    spot=st.booleans(),
    queue=st.none() | st.just("team"),
    recipe=st.sampled_from(["cifar10-r3gan", "demo", "ffhq64-r3gan", "dogs128-biggan"]),
)
def test_what_is_printed_keeps_every_rule(pods, gpus, run_id, spot, queue, recipe):
    """Whatever the options: either sound documents, or error lines and no documents."""
    words = [f"jobs/{recipe}.yaml", *PLACES, "--workers", str(pods), "--gpus-per-worker", str(gpus), "--run-id", run_id]
    words += ["--spot"] * spot + (["--queue", queue] if queue else [])
    ended = submitted(*words)
    assert ended.code in (0, 2), ended.error
    if ended.code == 2:
        assert ended.stdout == ""
        assert "error: " in ended.stderr
        return
    documents = ended.documents
    assert violations(documents) == []
    assert ray_job_mistakes(documents) == []
    assert option(ended, "--workers") == str(pods * max(1, gpus))
    assert option(ended, "--run-id") == run_id
