# Two commands: `make serve` and `make test`. Both install what is missing and skip what is there.
.PHONY: help serve test lint eval train install

HOST ?= 127.0.0.1
PORT ?= 8000

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

install:  ## install only
	@cluster/install
