# make demo: the whole job on the built-in images.   make test: every check.   make slow: the long checks as well.
# make chaos: ten minutes of random faults.   make e2e: submitted to a cluster, with bucket and Prometheus, on this machine.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Ray's own token authentication is for clusters; what starts here listens on this machine only.
export RAY_AUTH_MODE ?= disabled

.PHONY: demo test slow chaos e2e lint format manifests clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/gan-distributed prepare builtin:fashion-mnist demo/data --resolution 32
	$(BIN)/python -m gan_distributed.train --config jobs/demo.yaml
	@echo "Pictures: demo/runs/demo/samples/  More: $(BIN)/gan-distributed generate demo/runs/demo demo/pictures --num 64 --grid"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP) lint
	tests/install_prometheus.sh
	tests/install_chromium.sh
	$(BIN)/python -m pytest -m 'not slow' --numprocesses 2 --dist loadgroup

slow: $(STAMP)
	tests/install_prometheus.sh
	tests/install_chromium.sh
	$(BIN)/python -m pytest -m slow

chaos: $(STAMP)
	PYTHONPATH=tests:tests/faults $(BIN)/python -m chaos --minutes 10

e2e: $(STAMP)
	tests/install_prometheus.sh
	PYTHONPATH=tests $(BIN)/python -m end_to_end

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The numbers of k8s/ come from what `submit` renders; tests/deployment/test_manifests.py holds them together.
manifests: $(STAMP)
	$(BIN)/gan-distributed submit jobs/cifar10-r3gan.yaml --name gan-train --workers 8 --data gs://BUCKET/cifar10-32 \
	    --output gs://BUCKET/runs --google-account gan-train@PROJECT.iam.gserviceaccount.com >k8s/base/train.yaml
	$(BIN)/gan-distributed submit jobs/cifar10-r3gan.yaml --name gan-prepare --workers 4 --data gs://BUCKET/cifar10-32 \
	    --prepare gs://BUCKET/photos.zip --resolution 32 \
	    --google-account gan-train@PROJECT.iam.gserviceaccount.com >k8s/prepare.yaml

clean:
	rm -rf $(VENV) demo
