# Two commands for a newcomer: `make demo` and `make test`. Both set everything up in .venv first;
# a second run starts at once. `make ROS=0 ...` leaves the ROS 2 wheels out.
VENV ?= .venv
ROS ?= 1
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
  $$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; break; }; done)
BIN := $(VENV)/bin


.PHONY: demo test lint setup clean gpu-check

demo: setup
	$(BIN)/python -m trainer.demo --out runs/demo $(if $(filter 1,$(ROS)),,--no-ros)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# whatever Python there is, prepared or not: it says what is missing and runs the rest
gpu-check:
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmark.gpu_check --json gpu_check.json $(GPU_CHECK)

setup: $(VENV)/.installed $(if $(filter 1,$(ROS)),$(VENV)/.ros)

$(VENV)/.installed: setup.py package.xml Makefile
	@test -n '$(PYTHON)' \
	  || { echo 'error: no Python 3.10 to 3.13 found; name one: make PYTHON=/path/to/python3.12 ...'; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo 'error: Python cannot make a virtual environment; install its venv module: apt-get install python3-venv'; exit 2; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,clip,replay,words,test]'
	@touch $@

# There are ROS 2 wheels for Linux on x86_64; elsewhere the node's parts are skipped and say so.
$(VENV)/.ros: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --editable '.[ros]' && touch $@ \
	  || echo 'note: the ROS 2 wheels cannot be installed here: the node is left out of demo and tests'

clean:
	rm -rf $(VENV) runs/demo
