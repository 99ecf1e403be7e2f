# What people type. Rust, make and Python are enough; the tools that are missing are fetched.
#
#   make demo             see it work for 20 seconds; FOREVER=1 runs until Ctrl-C
#   make test             what must hold for every change; .ci/run adds static, docker, systemd, rust-socketio, bench-smoke and demo
#   make lint             the part of it that runs nothing
#   make unit             the part of it that runs the tests of this workspace
#   make outside          the tests of a connector and a transport in a crate outside of the workspace
#   make template         the tests of a connector that is made from connectors/template
#   make chaos            hundreds of random runs with faults; SEED=… repeats one, RUNS=… is their number;
#                         EVENTS=… is one long run with commands and jobs, with CLUSTER=1 on three nats-servers,
#                         with STORAGE=memory, process or power
#   make cluster          three daemons, three nats-servers and 60 instances under faults, for about 20 minutes; SEED=… draws
#                         another order, FAULTS=kill=50,freeze=20 names others, INSTANCES=…, SERVERS=…, TTL=… (seconds)
#   make static           the daemon as the image has it, linked statically, in an empty root
#   make rust-socketio    the same for the second Socket.IO engine, which needs OpenSSL
#   make kubernetes       check deploy/kubernetes and deploy/helm; no cluster is needed
#   make docker           the image and compose.yaml in a Docker engine; one is started where none runs and that is possible
#   make systemd          the Debian package in a Debian system whose process 1 is systemd, for which one must be root
#   make dist             what people download: archive, Debian package, checksums, list of crates; in target/dist;
#                         TARGET=aarch64-unknown-linux-gnu makes them for that, in target/dist-aarch64-unknown-linux-gnu
#   make man              write deploy/man again, after a change of the command line
#   make bench            measure Pontoon beside other solutions, see tests/bench; FULL=1 measures everything,
#                         ONLY=W1 prints one workload
#   make bench-check      count the instructions of the hot paths; UPDATE=1 keeps the counts
#   make bench-smoke      whether the benchmark works, in seconds
#   make tools            only fetch what the tests need, into target/tools
#   make outside-lock     write the lock of tests/outside again, after a change of Cargo.lock or of its dependencies

CARGO ?= cargo
# Without the second Socket.IO engine, which needs OpenSSL.
locked := --workspace --exclude pontoon-rust-socketio --locked
# A crate outside of the workspace, which no command for the workspace reaches.
outside := --manifest-path tests/outside/Cargo.toml
# Tests wait most of the time: for a server, a process, a deadline.
threads := $(shell echo $$((4 * $$(getconf _NPROCESSORS_ONLN))))
# The tests of the daemon and of the kit whose result may depend on the version of nats-server.
server := auth:: cli:: cluster:: delivery:: domains:: gaps:: jobs:: nats permissions:: reload:: spool:: streams:: writers::
step = @printf '\n==> %s\n' '$(1)'

.DEFAULT_GOAL := test
.PHONY: demo test lint chaos cluster tools outside-lock fmt clippy doc floors graph licences dashboard deploy unit outside template kubernetes static docker systemd dist man rust-socketio bench bench-check bench-smoke

demo:
	@tests/tools/nats-server.sh
	@$(CARGO) build --quiet --locked -p pontoon -p pontoon-demo --bins
	@"$${CARGO_TARGET_DIR:-target}/debug/pontoon-demo" $(if $(FOREVER),--forever)

test: lint unit outside template kubernetes
	$(call step,done)

lint: fmt clippy doc floors graph licences dashboard deploy

tools:
	$(call step,tools)
	@tests/tools/test-tools.sh

outside-lock:
	@cp Cargo.lock tests/outside/Cargo.lock
	@$(CARGO) update $(outside) --workspace --offline --quiet

fmt:
	$(call step,format)
	@$(CARGO) fmt --all --check
	@$(CARGO) fmt $(outside) --check

clippy:
	$(call step,clippy)
	@$(CARGO) clippy $(locked) --all-targets -- -D warnings
	@$(CARGO) clippy $(outside) --locked --all-targets --target-dir "$${CARGO_TARGET_DIR:-target}" -- -D warnings

doc:
	$(call step,documentation)
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(locked) --no-deps

floors:
	$(call step,floors of the source tree)
	@"$${PYTHON:-python3}" tests/tools/floors.py

graph:
	$(call step,crate graph)
	@tests/tools/graph.sh

licences:
	$(call step,licences and sources)
	@tests/tools/licences.sh

deploy:
	$(call step,what is shipped for hosts and containers)
	@tests/tools/deploy.sh

dashboard:
	$(call step,dashboard)
	@tests/tools/dashboard.sh

# Doctests are among them. The daemon is the user of deploy/nats, and may do no more.
unit: export PONTOON_LEAST_PRIVILEGE := 1
unit: export RUST_TEST_THREADS := $(threads)
unit: tools
	$(call step,tests)
	@PATH="$(CURDIR)/target/tools:$$PATH" $(CARGO) test $(locked) --no-fail-fast
	$(call step,what depends on the server on nats-server 2.9)
	@PONTOON_NATS_SERVER="$${PONTOON_NATS_SERVER_OLD:-$(CURDIR)/target/tools/nats-server-2.9}" \
		$(CARGO) test --locked -p pontoon -p pontoon-testkit --lib --test e2e --no-fail-fast -- $(server)

outside: tools
	$(call step,a connector and a transport in a crate outside of the workspace)
	@PATH="$(CURDIR)/target/tools:$$PATH" $(CARGO) test $(outside) --locked --target-dir "$${CARGO_TARGET_DIR:-target}"

# After outside, whose build of the dependencies it uses.
template:
	$(call step,a connector from the template)
	@tests/tools/template.sh

# Some of these runs are among the tests, too.
chaos: tools
	$(call step,random runs with faults)
	@PATH="$(CURDIR)/target/tools:$$PATH" $(if $(SEED),PONTOON_CHAOS_SEED=$(SEED)) \
		$(if $(EVENTS),PONTOON_CHAOS_EVENTS=$(EVENTS),PONTOON_CHAOS_RUNS=$(or $(RUNS),$(if $(SEED),1,300))) \
		$(if $(CLUSTER),PONTOON_CHAOS_CLUSTER=1) $(if $(STORAGE),PONTOON_CHAOS_STORAGE=$(STORAGE)) \
		$(CARGO) test --locked -p pontoon --test e2e -- --nocapture chaos::$(if $(EVENTS),in_a_long_run,what_is_lost)

# A short form is among the tests, too.
FAULTS ?= kill=50,freeze=20,stop=20,cut=10,roll=3
cluster: tools
	$(call step,daemons that share instances under faults)
	@PATH="$(CURDIR)/target/tools:$$PATH" PONTOON_CLUSTER_SEED=$(or $(SEED),1) PONTOON_CLUSTER_FAULTS=$(FAULTS) \
		PONTOON_CLUSTER_INSTANCES=$(or $(INSTANCES),60) PONTOON_CLUSTER_SERVERS=$(or $(SERVERS),3) \
		PONTOON_CLUSTER_TTL=$(or $(TTL),5) \
		$(CARGO) test --locked -p pontoon --test e2e -- --nocapture cluster::faults::what_is_missed

static: tools
	$(call step,static binary)
	@PATH="$(CURDIR)/target/tools:$$PATH" tests/tools/static.sh

docker: tools
	$(call step,the image in a Docker engine)
	@$(CARGO) build --quiet --locked -p pontoon-demo --bins
	@tests/tools/docker.sh "$$(PONTOON_PROFILE=quick tests/tools/static-build.sh)"

systemd: tools
	$(call step,the package in a system with systemd)
	@tests/tools/dist.sh "$$(PONTOON_PROFILE=quick tests/tools/static-build.sh)" "$(CURDIR)/target/dist-quick"
	@tests/tools/systemd.sh "$(CURDIR)"/target/dist-quick/*.deb

dist: export PONTOON_TARGET := $(TARGET)
dist:
	$(call step,archive and package)
	@tests/tools/dist.sh "$$(tests/tools/static-build.sh)" "$(CURDIR)/target/dist$(if $(TARGET),-$(TARGET))"

man:
	@$(CARGO) build --quiet --locked -p pontoon --bin pontoon
	@rm -f deploy/man/*.1
	@"$${CARGO_TARGET_DIR:-target}/debug/pontoon" man --write deploy/man

# Built as the demo is, so that it is built once.
kubernetes:
	$(call step,Kubernetes)
	@$(CARGO) build --quiet --locked -p pontoon -p pontoon-demo --bins
	@tests/tools/kubernetes.sh

rust-socketio: tools
	$(call step,second Socket.IO engine)
	@PATH="$(CURDIR)/target/tools:$$PATH" tests/tools/rust-socketio.sh

bench:
	$(call step,benchmark)
	@tests/tools/bench.sh $(if $(FULL),--full) $(if $(ONLY),--only $(ONLY))

bench-check:
	$(call step,instructions of the hot paths)
	@UPDATE=$(UPDATE) tests/tools/bench-check.sh

bench-smoke:
	$(call step,the benchmark itself)
	@BENCH_PROFILE=dev tests/tools/bench.sh --smoke $(if $(ONLY),--only $(ONLY)) "$${CARGO_TARGET_DIR:-target}/bench"
