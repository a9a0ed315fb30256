# Every target installs what it alone needs (test/deps.sh); "make help" lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# For what is run here and builds for elsewhere, or looks at it: the environment may name another platform.
GO_HERE := env GOOS= GOARCH= $(GO)
# Linters and benchstat, in versions pinned in a module of their own, so that the product does not depend on them.
TOOL := $(GO) tool -modfile=test/tools/go.mod
# The one that lists what the program is made of has a module of its own again, as it wants other versions than the linters do.
SBOM_TOOL := $(GO_HERE) tool -modfile=test/tools/sbom/go.mod
# Helm, kustomize and helm-docs likewise.
KUBERNETES_TOOL := $(GO) tool -modfile=test/tools/kubernetes/go.mod
# Builds the tools that tests use. The first time takes minutes, which should be no test's.
KUBERNETES_TOOLS = for tool in helm kustomize helm-docs; do $(KUBERNETES_TOOL) -n $$tool >/dev/null; done
TEST_TOOLS = $(KUBERNETES_TOOLS); $(SBOM_TOOL) -n cyclonedx-gomod >/dev/null
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
# Where the image goes, or what it is called where the archive is loaded, such as registry.example.com/readthrough:v1.2.3.
IMAGE ?=
# The architecture of "make rootfs", amd64 or arm64; the host's if empty.
ARCH ?=
# Where what is built is put.
BIN ?= bin
# What "sidecar version" and the image's labels say. SOURCE_DATE_EPOCH takes the place of the commit's date.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
DATE ?= $(shell epoch=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)}; \
	date -u -d "@$$epoch" +%FT%TZ 2>/dev/null || date -u -r "$$epoch" +%FT%TZ)
# How the program is built, whoever builds it: the same source and the same Go make the same bytes, whatever machine, folder or
# settings of Go. Of these, by variables or by "go env -w", only those count that say where modules come from and where files are kept.
GO_KEPT = GOPROXY GONOPROXY GOSUMDB GONOSUMDB GOINSECURE GOAUTH GOVCS GOTOOLCHAIN GOCACHE GOMODCACHE
GO_ENV = env $(foreach name,$(GO_KEPT),$(name)="$$($(GO) env $(name))") GOENV=off GOWORK=off GOFLAGS= GOEXPERIMENT= GOFIPS140=off \
	GO_EXTLINK_ENABLED= CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0
# The version is not taken from git once more, since a build in a container has no git.
BUILD = $(GO_ENV) $(GO) build -trimpath -buildvcs=false \
	-ldflags="-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)"
# Makes the image, of what BUILD builds.
IMAGE_TOOL = $(GO_ENV) $(GO_HERE) run -buildvcs=false ./cmd/image -version "$(VERSION)" -commit "$(COMMIT)" -date "$(DATE)"
# The revision that "make bench-compare" compares with, and the benchmarks.
REF ?= HEAD~1
BENCH ?= .

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Builds bin/sidecar
	@test/deps.sh go
	@$(BUILD) -o $(BIN)/sidecar ./cmd/sidecar
	@echo $(BIN)/sidecar

.PHONY: image
image: ## Builds the container image for amd64 and arm64 as an OCI archive, bin/readthrough.tar; IMAGE names it
	@test/deps.sh go
	@$(IMAGE_TOOL) archive $(BIN)/readthrough.tar "$(or $(IMAGE),localhost/readthrough:$(VERSION))" $(BUILD)

.PHONY: push
push: ## Builds the image and pushes it to IMAGE, a registry, a repository and a tag
	@test/deps.sh go
	@$(IMAGE_TOOL) push "$(IMAGE)" $(BUILD)

.PHONY: rootfs
rootfs: ## The files of the image, in bin/rootfs; ARCH is the host's, amd64 or arm64
	@test/deps.sh go
	rm -rf $(BIN)/rootfs
	@$(IMAGE_TOOL) rootfs $(BIN)/rootfs "$(ARCH)" $(BUILD)

.PHONY: sbom
sbom: rootfs ## Lists the modules in the program with their versions and licenses, by CycloneDX: bin/sbom.json
	@# Warnings about this module and the standard library are in order: it cannot fetch them, as it does the others for their licenses.
	$(SBOM_TOOL) cyclonedx-gomod bin -json -std -licenses -noserial -notimestamp -version "$(VERSION)" -output $(BIN)/sbom.json $(BIN)/rootfs/sidecar

.PHONY: test
test: ## Unit tests, fuzz seeds and integration with real servers, with the race detector; up to 10 minutes
	@test/deps.sh go gcc redis postgres pgbouncer node python3-redis php-redis ruby-redis
	@$(TEST_TOOLS)
	$(GO) test -race -timeout 10m $(TESTFLAGS) ./...

.PHONY: test-long
test-long: ## Everything at full length: long tests, then each fuzz target for FUZZTIME
	@test/deps.sh go gcc redis postgres pgbouncer node python3-redis php-redis ruby-redis
	@$(TEST_TOOLS)
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

.PHONY: e2e
e2e: ## The chart and everything after it on the Kubernetes of KUBECONFIG, which takes images by E2E_LOAD or E2E_REGISTRY: see CONTRIBUTING.md
	@test/deps.sh go redis postgres
	$(GO) test -tags e2e -count=1 -timeout 60m -parallel 6 -v $(TESTFLAGS) ./test/e2e

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
