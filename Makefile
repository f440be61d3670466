# The project's one task runner. Every target makes what it needs: the environment in .venv, programs in .tools.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
# Where nothing may be cached, each of the tests' hundreds of processes compiles all anew, for 0.7 s of CPU.
unexport PYTHONDONTWRITEBYTECODE
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
# Tests mostly wait for media: twice as many workers as cores is right.
WORKERS ?= 4
# More arguments for pytest, such as ARGS="-k mute".
ARGS ?=
# A test that fails gets one more try, at most twenty in all, and is named with its first failure even if it passes then.
RERUNS := --reruns 1 --max-suite-reruns 20 --rerun-show-tracebacks -raR

LIVEKIT_VERSION := 1.13.5
LIVEKIT_OLD_VERSION := 1.11.0
GRPCURL_VERSION := 1.9.4
GHZ_VERSION := 0.93.0
BUF_VERSION := 1.75.0
PROTOVALIDATE_VERSION := 1.2.2

BIN := .venv/bin
ENV := .venv/.complete
FUZZER := .venv/.fuzzer
LIVEKIT := .tools/livekit-server-$(LIVEKIT_VERSION)/livekit-server
LIVEKIT_OLD := .tools/livekit-server-$(LIVEKIT_OLD_VERSION)/livekit-server-$(LIVEKIT_OLD_VERSION)
GRPCURL := .tools/grpcurl-$(GRPCURL_VERSION)/grpcurl
GHZ := .tools/ghz-$(GHZ_VERSION)/ghz
BUF := .tools/buf-$(BUF_VERSION)/buf
PROTOVALIDATE := .tools/protovalidate/v$(PROTOVALIDATE_VERSION)
# Named after what it is made of: a change builds it anew, and a new checkout does not.
EGRESS_WORKER := .tools/egress-worker-$(shell cat tests/egress_worker/*.go tests/egress_worker/go.* | sha256sum | head -c 12)/egress-worker
CODE := $(wildcard track_server tests bench chaos clients/python fuzz tools)
COMPANION := clients/browser/build/page.html
COMPANION_SOURCES := $(wildcard clients/browser/src/* clients/browser/test/* clients/browser/*.json) clients/browser/.npmrc
BASELINE := protos/baseline.binpb

# bash has a SECONDS of its own: only one that was given to make counts.
ifeq ($(origin SECONDS),command line)
DEMO_SECONDS := --seconds $(SECONDS)
FUZZ_SECONDS := --seconds $(SECONDS)
CHAOS_SECONDS := --seconds $(SECONDS)
endif

.PHONY: help
help:
	@echo 'make demo [SECONDS=20]   a real room: LiveKit, TrackService, publications, a viewer, live quality'
	@echo 'make test [ARGS=...]     all tests, against the real LiveKit server'
	@echo 'make fuzz [SECONDS=60]   coverage-guided fuzzing of all that reads what strangers send; findings in .fuzz/'
	@echo 'make chaos [SECONDS=300] [SEED=n]  event streams while all is killed and cut; chaos/results.json'
	@echo 'make lint                ruff, mypy, import floors, buf lint and breaking'
	@echo 'make format              ruff format and fixes'
	@echo 'make proto               generated/ and docs/api.md from protos/'
	@echo 'make proto-check         fails where those are not what protos/ generates'
	@echo 'make baseline            at a release: the contract that later ones must not break'
	@echo 'make bench               figures into bench/results.json'
	@echo 'make impair [ARGS=...]   quality against impairment with known truth; bench/impairment.{json,html}'
	@echo 'make lock [UPGRADE=1]    requirements.lock from pyproject.toml'
	@echo 'make companion           the companion for browsers: clients/browser/dist'
	@echo 'make tools               the programs that tests and benchmarks need, into .tools'
	@echo 'make clean               removes the environment and caches; .tools is kept'

.PHONY: demo
demo: $(LIVEKIT) $(ENV)
	@exec $(BIN)/track-server demo --livekit-server .tools/bin/livekit-server $(DEMO_SECONDS)

.PHONY: test
test: $(LIVEKIT) $(LIVEKIT_OLD) $(GRPCURL) $(EGRESS_WORKER) $(COMPANION) $(ENV)
	$(BIN)/pytest -n $(WORKERS) $(RERUNS) $(ARGS)

.PHONY: fuzz
fuzz: $(FUZZER)
	@exec $(BIN)/python -m fuzz $(FUZZ_SECONDS)

.PHONY: chaos
chaos: $(LIVEKIT) $(ENV)
	@exec $(BIN)/python -m chaos $(CHAOS_SECONDS) $(if $(SEED),--seed $(SEED))

.PHONY: lint
lint: $(BUF) $(PROTOVALIDATE) $(COMPANION) $(ENV)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-cache
	cd clients/browser && npm run --silent check
	$(BUF) format protos --diff --exit-code
	$(BUF) lint protos
	@test -f $(BASELINE) || { echo '$(BASELINE) is missing: run `make baseline` and commit it' >&2; exit 1; }
	$(BUF) breaking protos --against $(BASELINE)

.PHONY: format
format: $(ENV)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: proto
proto: $(PROTOVALIDATE) $(ENV)
	$(BIN)/python -m tools.generate

.PHONY: proto-check
proto-check: $(PROTOVALIDATE) $(ENV)
	$(BIN)/python -m tools.generate --check

.PHONY: baseline
baseline: $(BUF) $(PROTOVALIDATE)
	$(BUF) build protos --exclude-source-info -o $(BASELINE)

.PHONY: bench
bench: $(LIVEKIT) $(COMPANION) $(ENV)
	$(BIN)/python -m bench

# Real media over a bad line, against what a relay did to it. ARGS="--only loss --minutes 5" for a part.
.PHONY: impair
impair: $(LIVEKIT) $(COMPANION) $(ENV)
	$(BIN)/python -m bench.impairment $(ARGS)

.PHONY: lock
lock:
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/pip install --quiet uv; }
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	  --quiet --output-file requirements.lock
	$(BIN)/uv pip compile fuzz/requirements.in --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	  --quiet --output-file fuzz/requirements.txt

.PHONY: tools
tools: $(LIVEKIT) $(LIVEKIT_OLD) $(GRPCURL) $(GHZ) $(BUF) $(PROTOVALIDATE) $(EGRESS_WORKER)

# The companion for browsers, and the page in which the tests run it.
.PHONY: companion
companion: $(COMPANION)

.PHONY: clean
clean:
	rm -rf clients/browser/node_modules clients/browser/build clients/browser/dist
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.tools/*' -prune -exec rm -rf {} +

$(ENV): requirements.lock pyproject.toml
	@tools/environment $(PYTHON)
	@touch $@

# Beside the rest, and only where it is used: a native fuzzer for Linux and macOS, and Python up to 3.13.
$(FUZZER): fuzz/requirements.txt $(ENV)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes --requirement $<
	@touch $@

$(COMPANION): $(COMPANION_SOURCES) tools/companion
	@tools/companion
	@touch $@

$(LIVEKIT):
	@tools/go-tool livekit-server $@ $(LIVEKIT_VERSION) github.com/livekit/livekit-server/cmd/server

$(LIVEKIT_OLD):
	@tools/go-tool livekit-server-$(LIVEKIT_OLD_VERSION) $@ $(LIVEKIT_OLD_VERSION) github.com/livekit/livekit-server/cmd/server

$(GRPCURL):
	@tools/go-tool grpcurl $@ $(GRPCURL_VERSION) github.com/fullstorydev/grpcurl/cmd/grpcurl

$(GHZ):
	@tools/go-tool ghz $@ $(GHZ_VERSION) github.com/bojand/ghz/cmd/ghz

$(BUF):
	@tools/go-tool buf $@ $(BUF_VERSION) github.com/bufbuild/buf/cmd/buf

$(EGRESS_WORKER):
	@tools/egress-worker $@

$(PROTOVALIDATE):
	@tools/protovalidate $(@D) $(PROTOVALIDATE_VERSION)
	@touch $@
