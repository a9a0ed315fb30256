# Every target installs what it alone needs (test/deps.sh); "make help" lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# Linters and benchstat, in versions pinned in a module of their own, so that the product does not depend on them.
TOOL := $(GO) tool -modfile=test/tools/go.mod
# Helm, kustomize and helm-docs likewise. The first use builds them, in minutes that should be no test's.
KUBERNETES_TOOL := $(GO) tool -modfile=test/tools/kubernetes/go.mod
KUBERNETES_TOOLS = for tool in helm kustomize helm-docs; do $(KUBERNETES_TOOL) -n $$tool >/dev/null; done
# More flags of "go test", such as -v or -run.
TESTFLAGS ?=
# How long "make fuzz" runs each target.
FUZZTIME ?= 30s
# How long "make checker" runs. CHECKER_SEED is the seed of its first round; without it there is a new one.
CHECKER ?= 10m
# How long "make soak" lets things fail, such as 2h.
SOAK ?= 5m
# What "make bench" and "make demo" are given, such as BENCHFLAGS="-rounds 5".
BENCHFLAGS ?=
DEMOFLAGS ?=
# What "sidecar version" says.
VERSION_FLAGS = -X main.version=$$(git describe --tags --always --dirty) -X main.commit=$$(git rev-parse HEAD) \
	-X main.date=$$(git log -1 --format=%cI)
# The revision that "make bench-compare" compares with, and the benchmarks.
REF ?= HEAD~1
BENCH ?= .

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Builds bin/sidecar
	@test/deps.sh go
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w $(VERSION_FLAGS)" -o bin/sidecar ./cmd/sidecar

.PHONY: test
test: ## Unit tests, fuzz seeds and integration with real servers, with the race detector; up to 10 minutes
	@test/deps.sh go gcc redis postgres pgbouncer node python3-redis php-redis ruby-redis
	@$(KUBERNETES_TOOLS)
	$(GO) test -race -timeout 10m $(TESTFLAGS) ./...

.PHONY: test-long
test-long: ## Everything at full length: long tests, then each fuzz target for FUZZTIME
	@test/deps.sh go gcc redis postgres pgbouncer node python3-redis php-redis ruby-redis
	@$(KUBERNETES_TOOLS)
	READTHROUGH_LONG=1 $(GO) test -race -count=1 -timeout 2h $(TESTFLAGS) ./...
	test/fuzz.sh $(FUZZTIME)

.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME (30s)
	@test/deps.sh go redis postgres
	test/fuzz.sh $(FUZZTIME)

.PHONY: checker
checker: ## Many clients, delays and faults for CHECKER (10m), and whether a stale value was read; CHECKER_SEED repeats decisions
	@test/deps.sh go gcc redis postgres
	CHECKER=$(CHECKER) $(GO) test -race -count=1 -timeout 0 -v -run '^TestProtocol$$' $(TESTFLAGS) ./test/checker

.PHONY: soak
soak: ## Load of every kind and faults at random for SOAK (5m), then a look at what has grown; SOAK_SEED repeats a run
	@test/deps.sh go gcc redis postgres
	SOAK=$(SOAK) $(GO) test -race -count=1 -timeout 0 -v $(TESTFLAGS) ./test/soak

.PHONY: lint
lint: ## Linters, formatting and the syntax of scripts; the first run builds golangci-lint (minutes)
	@test/deps.sh go
	$(TOOL) golangci-lint run ./...
	bash -n test/*.sh .ci/run

.PHONY: fmt
fmt: ## Formats the code
	@test/deps.sh go
	$(TOOL) golangci-lint fmt ./...

.PHONY: manifests
manifests: ## Renders manifests/, the chart's README and the goldens of its tests anew from charts/readthrough
	@test/deps.sh go
	@$(KUBERNETES_TOOLS)
	$(GO) test -count=1 ./test/chart -update

.PHONY: bench
bench: ## Measures the sidecar beside direct Redis, twemproxy and HAProxy; BENCHFLAGS are passed on
	@test/deps.sh go redis postgres nutcracker haproxy
	$(GO) run ./test/bench $(BENCHFLAGS)

.PHONY: bench-compare
bench-compare: ## Compares Go benchmarks (BENCH) with another revision (REF) by benchstat
	@test/deps.sh go redis
	old=$$(mktemp -d); trap 'git worktree remove --force "$$old"' EXIT; \
	git worktree add --quiet --detach "$$old" $(REF); \
	(cd "$$old" && $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count 6 ./...) >"$$old/old.txt"; \
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count 6 ./... >"$$old/new.txt"; \
	$(TOOL) benchstat "$$old/old.txt" "$$old/new.txt"

.PHONY: demo
demo: ## Runs a Redis Cluster, a PostgreSQL with data and the sidecar on 6380, until Ctrl-C
	@test/deps.sh go redis postgres
	$(GO) run ./test/demo $(DEMOFLAGS)

.PHONY: demo-check
demo-check: ## The same without a person: runs the demo's commands and compares their answers
	@test/deps.sh go redis postgres
	$(GO) run ./test/demo -check $(DEMOFLAGS)

.PHONY: clean
clean: ## Removes what was built
	rm -rf bin
