# What can be done with Cordon. `make` alone prints this list.

GO        ?= go
FUZZTIME  ?= 60s
# Flags of cordonbench: BENCH=-help lists them.
BENCH     ?=
# The official package that the tables of fhir/r4 are made from.
CORDON_PACKAGE ?= ../shared/data/definitions/hl7.fhir.r4.core-4.0.1.tgz
INSTALL = apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends

.DEFAULT_GOAL := help
.PHONY: help run build test race check format vet lint tidy fmt generate templates pages bench fuzz results breakout breakout-full breakout-mutants faults deps clean

help: ## Print what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Start a server with its own PostgreSQL and five demo tenants
	bin/cordon dev --demo

build: ## Build bin/cordon, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/cordon ./cmd/cordon

test: ## Run every test on real components
	$(GO) test ./...

race: ## Run every test with the race detector
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GO) test -race -p 3 -timeout 24m ./...

check: format vet lint tidy pages race ## Everything that CI runs

format:
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not formatted (make fmt):"; echo "$$files"; exit 1; fi

vet:
	$(GO) vet ./...

lint: bin/staticcheck ## Look for mistakes that the compiler lets pass
	bin/staticcheck ./...

bin/staticcheck: tools/go.mod tools/go.sum
	$(GO) -C tools build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck

tidy:
	$(GO) mod tidy -diff

fmt: ## Format the source
	gofmt -w $$(git ls-files '*.go')

generate: templates ## Make the FHIR tables again, from CORDON_PACKAGE=FILE.tgz, and the pages
	CORDON_PACKAGE=$(abspath $(CORDON_PACKAGE)) $(GO) generate ./fhir/...

templates: bin/templ ## Make the code of the pages again, from their templates
	bin/templ generate -path smart/launch

bin/templ: tools/go.mod tools/go.sum
	$(GO) -C tools build -o ../bin/templ github.com/a-h/templ/cmd/templ

pages: templates
	@git diff --exit-code --stat -- '*_templ.go' || { echo "the code of the pages is not that of their templates (make templates)"; exit 1; }

bench: build ## Measure Cordon beside what PostgreSQL alone can do (BENCH=-quick)
	$(GO) build -trimpath -o bin/cordonbench ./cmd/cordonbench
	bin/cordonbench -cordon bin/cordon $(BENCH)

# Runs each fuzz target, with more flags.
FUZZ = for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $(1) $$p; \
		done; \
	done

fuzz: ## Run each fuzz target for FUZZTIME=60s
	@set -e; $(call FUZZ)

COLLECT = $(GO) run ./evidence/collect -revision "$$(git describe --always --dirty)"

results: ## Run every test, and write which requirement each proves to bin/results.json
	@mkdir -p bin
	$(GO) test -json ./... | $(COLLECT) > bin/results.json

breakout: ## Try to break out of each tenant; writes a score sheet to bin/breakout.json
	@mkdir -p bin
	$(GO) test -json -timeout 30m ./conformance | $(COLLECT) > bin/breakout.json

breakout-full: ## The same for every ordered pair of tenants, and each fuzz target for FUZZTIME: bin/breakout-full.json and -scan.md
	@mkdir -p bin
	{ $(GO) test -json -timeout 4h ./conformance -full -scan $(CURDIR)/bin/breakout-full-scan.md; \
		$(call FUZZ,-json); } | $(COLLECT) > bin/breakout-full.json

breakout-mutants: ## Put each seeded fault into the program, and see the suite turn red
	$(GO) test -run 'TestSeeded' -v -timeout 4h ./conformance -mutants

faults: ## Kill, cut and starve servers: each crash point 20 times, then what was lost, torn or unaudited
	$(GO) test -v -timeout 120m ./conformance/faults -rounds 4

deps: ## Install what the tests need on a fresh Debian machine: PostgreSQL, Chromium, npm and what it fetches
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1; then \
		echo "PostgreSQL is installed"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		$(INSTALL) postgresql; \
	else \
		echo "PostgreSQL is not installed: the npm package of its binaries will be fetched when a test first needs it"; \
	fi
	@if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1; then \
		echo "Chromium is installed"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		$(INSTALL) chromium; \
	else \
		echo "Chromium is not installed: the tests of the pages will be skipped"; \
	fi
	@if ! command -v npm >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then $(INSTALL) npm; fi
	@if command -v npm >/dev/null 2>&1; then npm --prefix deploy/demo-app ci; fi

clean: ## Remove what was built
	rm -rf bin
