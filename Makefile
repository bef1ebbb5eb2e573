# The list of commands; `make help` prints it. Whatever a command needs it installs itself, pinned, into the cache.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export WINDLASS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/windlass
# Outside the tree: a fresh clone then builds only what has changed.
export CARGO_TARGET_DIR ?= $(WINDLASS_CACHE)/target

# One selection of packages and targets in every call: another one means other features, and all is built again.
CARGO_TEST := cargo test --workspace --locked
ARCH ?= amd64
TARGET := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-gnu
SCRIPTS = $(shell git ls-files -co --exclude-standard | while read -r f; do [ -f "$$f" ] && head -c 64 "$$f" | grep -aq '^\#!.*bash\|shellcheck shell=bash' && echo "$$f"; done)
FUZZ := $(WINDLASS_CACHE)/tools/cargo-fuzz-0.13.2/bin/cargo-fuzz
# How long `make fuzz` tries each target.
FUZZ_SECONDS ?= 60
DENY := $(WINDLASS_CACHE)/tools/cargo-deny-0.20.2/bin/cargo-deny

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run stop
run: ## Start a registry on a cluster, push an image, run it in a Pod (local cluster unless KUBECONFIG is set)
	@e2e/run
stop: ## Remove all that `make run` has started
	@e2e/run stop

.PHONY: test tree lint fmt unit race soak fuzz bench deny advisories generate
lint unit race soak binaries: tree
# Cargo tells by its time whether a file has changed; a build of another tree may be younger than a change in this one.
tree:
	@mkdir -p $(CARGO_TARGET_DIR); [[ $$(cat $(CARGO_TARGET_DIR)/tree 2>/dev/null) == $(CURDIR) ]] \
	  || git ls-files -z | xargs -0 touch --no-create; echo $(CURDIR) >$(CARGO_TARGET_DIR)/tree
test: lint unit race chart deny clients e2e conformance ## Run everything that must pass
fmt: ## Format the code
	cargo fmt --all
lint: debian ## Check format, clippy, rustdoc and shell scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --workspace --test cluster --test clients --test gitops --test rights --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items
	shellcheck $(SCRIPTS)
unit: debian ## Run unit and integration tests, and check the generated files
	$(CARGO_TEST)
race: debian ## Check that the race of pushes and garbage collections notices a server that looks only once
	WINDLASS_RACE_SECONDS=180 $(CARGO_TEST) --features registry-server/without-second-check --test race
soak: debian ## Run that race for an hour, and search the largest models of its protocol
	WINDLASS_RACE_SECONDS=3600 $(CARGO_TEST) --test race -- --nocapture
	$(CARGO_TEST) --test protocol_model -- --ignored --nocapture
# Nightly's address sanitizer would find nothing in a program without `unsafe`.
fuzz: $(FUZZ) ## Try what comes from outside with inputs that nobody thinks of, FUZZ_SECONDS each
	cd registry-server && for target in $$(ls fuzz/seeds); do \
	  mkdir -p $(WINDLASS_CACHE)/fuzz/corpus/$$target; \
	  env -u CARGO_TARGET_DIR RUSTC_BOOTSTRAP=1 PATH=$(dir $(FUZZ)):$$PATH cargo fuzz run -s none \
	    --fuzz-dir fuzz --target-dir $(WINDLASS_CACHE)/fuzz/target $$target \
	    $(WINDLASS_CACHE)/fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS); \
	done
bench: binaries ## Compare servers and garbage collections with others: the tables of docs/performance.md
	@e2e/bench/serve
	@e2e/bench/gc
generate: ## Rewrite the generated files: CRDs, chart copies, reference pages, golden files
	UPDATE_GENERATED=1 $(CARGO_TEST)
	UPDATE_GENERATED=1 charts/tests/run
deny: $(DENY) ## Check the licences and sources of all dependencies
	$(DENY) check licenses bans sources
$(FUZZ):
	env -u CARGO_TARGET_DIR cargo install --debug --locked --version 0.13.2 --root $(@D)/.. cargo-fuzz
advisories: $(DENY) ## Check the dependencies against RustSec's database (network)
	$(DENY) check advisories
$(DENY):
	env -u CARGO_TARGET_DIR cargo install --debug --locked --version 0.20.2 --root $(@D)/.. cargo-deny

.PHONY: binaries images chart manifest
binaries: debian ## Build the static programs into dist/$(ARCH) (arm64: on such a machine)
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bins -p operator -p registry-server --target $(TARGET)
	install -D --mode 0755 --target-directory dist/$(ARCH) $(CARGO_TARGET_DIR)/$(TARGET)/release/{operator,registry-server}
images: binaries ## Build the images into dist/*.tar
	@ARCH=$(ARCH) e2e/images
chart: ## Lint the chart and compare what it renders with the golden files
	@charts/tests/run
manifest: ## Render the chart into dist/windlass.yaml, for those without Helm
	mkdir -p dist
	PATH="$$(e2e/tools/install helm):$$PATH"; { \
	  printf 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: windlass-system\n'; \
	  helm template windlass charts/windlass --namespace windlass-system; } >dist/windlass.yaml

.PHONY: clients e2e e2e-gitops conformance
clients: binaries ## Run the clients that people use against the server (no cluster)
	programs=$$(e2e/tools/install debian clients cosign helm buildkit containerd docker) \
	  && PATH=$${programs//$$'\n'/:}:$$PATH $(CARGO_TEST) --test clients -- --test-threads 4
e2e: ## Run the whole-system tests on a cluster (local unless KUBECONFIG is set)
	. e2e/environment.sh && e2e/install && $(CARGO_TEST) --test cluster -- --test-threads 4 --skip alone:: --skip local:: \
	  && $(CARGO_TEST) --test cluster -- --test-threads 1 alone:: && { [[ -z $${is_local:-} ]] || { \
	  $(CARGO_TEST) --test cluster -- --test-threads 1 local:: && $(CARGO_TEST) --test rights; }; }
e2e-gitops: ## Let Flux's own controller apply a Registry there (not in `make test`: its build takes minutes)
	. e2e/environment.sh && e2e/install && programs=$$(e2e/tools/install flux) \
	  && PATH=$$programs:$$PATH $(CARGO_TEST) --test gitops
conformance: binaries ## Run the OCI distribution-spec's own suite against the server
	@e2e/conformance

.PHONY: cluster-up cluster-down cluster-shell debian tools clean
cluster-up: ## Start the local test cluster
	@e2e/cluster/cluster up
cluster-down: ## Stop it; nothing is left behind
	@e2e/cluster/cluster down
cluster-shell: ## A shell with kubectl on it
	@e2e/cluster/cluster shell
debian:
	@e2e/tools/install debian
tools: $(DENY) ## Build all pinned third-party tools into the cache
	@e2e/tools/install debian docker docker-registry $(patsubst e2e/tools/%/go.mod,%,$(wildcard e2e/tools/*/go.mod))
clean: ## Remove what was built in the tree; the cache stays
	rm -rf dist
