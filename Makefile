# Two commands: `make serve` and `make test`. Both install what is missing and skip what is there.
.PHONY: help serve test lint eval train loadtest bench install

HOST ?= 127.0.0.1
PORT ?= 8000
SCENARIO ?= mix
SUITE ?= retrieval

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve:  ## serve the atlas at http://127.0.0.1:8000 (PORT=… HOST=… to change)
	@cluster/install
	@exec .venv/bin/mmrag serve --host $(HOST) --port $(PORT)

test:  ## lint and test everything
	@cluster/install --tests
	@.venv/bin/ruff check .
	@.venv/bin/python -m pytest

lint:  ## lint only
	@cluster/install
	@.venv/bin/ruff check .

eval:  ## the table of the README, measured anew
	@cluster/install
	@.venv/bin/mmrag eval atlas

train:  ## train the atlas's image tower and fusion decoder anew
	@cluster/install
	@.venv/bin/mmrag train atlas

loadtest:  ## drive a service and report: SCENARIO=mix (see loadtests/scenarios.toml) PEAK=… SHAPE=… DURATION=…
	@cluster/install
	@exec .venv/bin/python -m loadtests.run --url http://$(HOST):$(PORT) --scenario $(SCENARIO) \
		$(if $(SHAPE),--shape $(SHAPE)) $(if $(LOOP),--loop $(LOOP)) $(if $(PEAK),--peak $(PEAK)) \
		$(if $(DURATION),--duration-s $(DURATION)) $(if $(DASHBOARD),--dashboard $(DASHBOARD))

bench:  ## both sides in one run, with musts: SUITE=retrieval, engine or compare; SCALE=0.02 to try it; PARTS=… ROWS=… PEERS=…
	@cluster/install --tests
	@exec .venv/bin/python -m loadtests.bench.$(SUITE) $(if $(SCALE),--scale $(SCALE)) $(if $(PARTS),--parts $(PARTS)) \
		$(if $(ROWS),--rows $(ROWS)) $(if $(PEERS),--peers $(PEERS)) $(if $(ROUNDS),--rounds $(ROUNDS))

install:  ## install only
	@cluster/install
