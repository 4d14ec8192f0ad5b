# Each target sets up what it needs by itself; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto')
DATA ?=
ARGS ?=

.PHONY: help demo stack test quality bench growth faults faults-long fuzz lint format docs clean release-contract
help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[clickstream,improvement,embedded,dev]'
	touch $@

# A change of the contract needs new stubs, and nothing else of the set-up.
$(VENV)/.stubs: $(VENV)/.installed $(PROTOS)
	$(BIN)/python protos/build_stubs.py 2> /dev/null
	touch $@

# A real Milvus server, beside Milvus Lite: its old dependencies stay out of our environment.
.venv-milvus/.installed:
	$(PYTHON) -m venv .venv-milvus
	.venv-milvus/bin/python -m pip install --quiet --disable-pip-version-check --no-deps milvus==2.3.5
	touch $@

demo: $(VENV)/.stubs  ## The whole loop on this machine: search, click, learn, search again (DATA=DIR for other people, ARGS=--keep, --secure)
	$(BIN)/python -m deploy.local.demo $(if $(DATA),--data $(DATA)) $(ARGS)

stack: $(VENV)/.stubs  ## All of it on this machine until Ctrl-C (ARGS=--secure: with TLS and keys)
	$(BIN)/python -m deploy.local.stack $(ARGS)

test: $(VENV)/.stubs .venv-milvus/.installed  ## All tests, on two cores (ARGS='-k word' for some)
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 $(ARGS)

quality: $(VENV)/.stubs  ## Does it help the people who search? (DATA=DIR) Are positions judged right?
	$(BIN)/python -m deploy.local.quality $(if $(DATA),--data $(DATA)) $(ARGS)
	$(BIN)/python -m tests.benchmarks.position_bias

growth: $(VENV)/.stubs  ## What it costs when there is ten times as much: 0.5 and 5 million interactions (ARGS='--sizes 20000' for a try)
	$(BIN)/python -m tests.benchmarks.growth_of_interactions $(ARGS)

bench: $(VENV)/.stubs .venv-milvus/.installed  ## Everything beside what it could be at best, into tests/benchmarks/RESULTS.md (QUICK=1, SECTION=ingest)
	$(BIN)/python -m tests.benchmarks.bench $(if $(QUICK),--quick) $(if $(SECTION),--section $(SECTION)) $(ARGS)

faults: $(VENV)/.stubs .venv-milvus/.installed  ## Processes killed and stopped, networks cut, disks full, clocks set
	$(BIN)/python -m pytest tests/faults tests/clickstream/test_clock_steps.py tests/improvement/test_scheduling.py $(ARGS)

faults-long: $(VENV)/.stubs  ## The same for long: 5 million events, 100 kills (ARGS='--seconds 1800')
	$(BIN)/python -m tests.faults.long $(ARGS)

fuzz: $(VENV)/.stubs  ## 100,000 mutated requests over every RPC (ARGS='--count 5000 --seed 2')
	$(BIN)/python -m tests.faults.fuzz $(ARGS)

lint: $(VENV)/.stubs  ## Style, types, import walls, contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --diff --exit-code
	$(BIN)/buf breaking protos --against protos/released.binpb

format: $(VENV)/.stubs  ## Put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format protos --write

docs: $(VENV)/.stubs  ## Write protos/REFERENCE.md anew from the comments of the contract
	$(BIN)/python protos/reference.py

release-contract: $(VENV)/.stubs  ## Freeze the contract as released: later changes must not break it
	$(BIN)/buf build protos --output protos/released.binpb

clean:  ## Remove what was set up and generated
	rm -rf $(VENV) .venv-milvus .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find protos -name '*_pb2*.py*' -delete
