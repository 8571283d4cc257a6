# Every target does its own set-up; what a fresh machine needs is Go, git and make.
GO ?= go
# One setting for all but the race detector, so that everything is compiled once.
export CGO_ENABLED := 0
BIN := bin/leat
# Packages that stay clear of the Kubernetes libraries: the race detector would
# compile those again, which takes minutes and tests nobody's code here.
RACE := ./api/event/... ./raftlog/... ./filter/... ./channel/... ./dispatcher/... ./broker ./broker/http1 ./broker/operations/... ./cmd/leat/settings/... ./cmd/leat/server/certs ./cmd/leat/server/tracing
GOLANGCI := v2.15.0

# How long make soak goes on.
SOAK ?= 1h
SOAKED := TestEngine|TestDatabaseOverCrashes|TestNothingAcknowledgedIsLostByKill|TestChurnOverKills|TestOverload|TestHostilePeers

.PHONY: build test soak race demo bench mutants lint fmt docs clean

build: ## the binary, in bin/leat
	$(GO) build -ldflags="-s -w" -o $(BIN) ./cmd/leat

test: build ## everything that must pass
	test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run make fmt"; exit 1; }
	$(GO) vet ./...
	LEAT_BIN=$(CURDIR)/$(BIN) $(GO) test -timeout 15m ./...
	CGO_ENABLED=1 $(GO) test -race -short -timeout 15m $(RACE)

soak: build ## random lives of the engine, kills, overload and hostile peers, for SOAK=1h; it tells rounds, seeds, events, and what it found
	LEAT_BIN=$(CURDIR)/$(BIN) LEAT_SOAK=$(SOAK) $(GO) test -p 3 -count=1 -timeout 0 -v -run '^($(SOAKED))$$' ./dispatcher/metamorphic ./raftlog/kv ./cmd/leat/e2e > bin/soak.log 2>&1; status=$$?; \
	grep -E '(_test\.go:|^(--- |ok|FAIL|PASS|panic))' bin/soak.log; exit $$status

demo: build ## the main job on real processes, in under a minute
	$(GO) run ./examples/orders -leat $(CURDIR)/$(BIN)

bench: build ## Leat, its peers and the machine's own ceilings in one table; BENCH='-h' lists the flags (bench/README.md)
	$(GO) run ./bench -leat $(CURDIR)/$(BIN) $(BENCH)

mutants: ## every way of breaking the source that a test is known to notice
	LEAT_MUTANTS=all $(GO) test -timeout 60m -v -run Mutant ./docs

lint: ## golangci-lint, compiled from source
	GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	bin/golangci-lint run

fmt:
	gofmt -w $$(git ls-files '*.go')

docs: build ## generated pages
	$(BIN) server settings > docs/settings.md
	$(BIN) reference > docs/commands.md
	$(BIN) server metrics > docs/metrics.md

clean:
	rm -rf bin
