# SPDX-License-Identifier: MIT
# A thin front on Meson: `make` leaves the CLI at build/nanoq, `make demo` shows it, `make test` passes all tests,
# `make fault` breaks things while it works, `make model` and
# `make fuzz` try what nobody thinks of, `make bench` measures, `make counts` counts.

BUILD ?= build
PREFIX ?= /usr/local
# Many files a compiler's run: half the time of a build from nothing. For tests each file is compiled by itself.
UNITY = -Dunity=on -Dunity_size=40
# Python leaves no __pycache__ in the tree.
export PYTHONDONTWRITEBYTECODE = 1

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja: | build-deps
	@meson setup $(BUILD) -Dtests=false $(UNITY) >$(BUILD).log 2>&1 || { cat $(BUILD).log; rm -f $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log

demo: build-deps $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet examples/demo
	@$(BUILD)/examples/demo

test: test-deps
	@tools/test

# One program, case or test: make check T=claim
check: test-deps
	@tools/check "$(T)"

# What the goals below build, with what its developers use.
build-test/build.ninja: | test-deps
	@CC=gcc CXX=g++ meson setup build-test -Dwerror=true -Dsqlite=enabled -Dmysql=enabled

FAULT = nanoq tests/fault/load tests/fault/load-nofence tests/fault/load-nogate tests/fault/wrong_clock.so
fault: test-deps build-test/build.ninja
	@ninja -C build-test --quiet $(FAULT)
	@tests/fault/run
	@ninja -C build-test --quiet tests/worker/worker
	@for s in mariadb sqlite; do NANOQ_TEST_LONG=1 CK_RUN_CASE=long tests/with-mariadb build-test/tests/worker/worker $$s || exit 1; done

fault-sanitized: test-deps
	@tests/fault/sanitized

# Random steps in a model and in each store at once; NANOQ_SEED repeats a run.
model: test-deps build-test/build.ninja
	@ninja -C build-test --quiet tests/model/model
	@NANOQ_MODEL_STEPS=$${NANOQ_MODEL_STEPS:-1000000} build-test/tests/model/model sqlite
	@NANOQ_MODEL_STEPS=$${NANOQ_MODEL_STEPS:-100000} tests/with-mariadb build-test/tests/model/model mariadb

fuzz: test-deps
	@tests/fuzz/run

# clang-tidy as deep as it goes of itself: half an hour.
tidy: test-deps
	@tools/check-tidy --deep

valgrind: test-deps build-test/build.ninja
	@ninja -C build-test --quiet
	@tools/valgrind

coverage:
	@tools/deps coverage
	@tools/coverage

# Each alert of share/prometheus is fired once, with a Prometheus that scrapes real workers.
test-metrics: metrics-deps build-test/build.ninja
	@ninja -C build-test --quiet nanoq
	@tests/metrics/alerts.py

# On servers that this Debian does not have; they are fetched and unpacked under build-servers/.
SERVER = $(patsubst test-%,%,$(subst mysql,mysql9,$@))
test-mysql test-mariadb11 test-galera test-group test-groups: test-deps build-test/build.ninja
	@ninja -C build-test --quiet
	@tests/servers/run $(SERVER)

# The three kinds of cluster, an hour or less each.
test-cluster: test-galera test-group test-groups

bench: test-deps
	@bench/run

# Instructions, statements and bytes a task, beside bench/counts.txt: 3 % more fail.
counts: test-deps
	@bench/counts --check

# Beside other queues; needs PostgreSQL, Redis, node and npm, and says so.
bench-peers: test-deps
	@bench/peers/run

# The dashboard in a browser; a part of `make test`, where what is missing only skips it.
test-web: web-deps build-test/build.ninja
	@ninja -C build-test --quiet
	@NANOQ_WEB_REQUIRED=1 tests/with-mariadb meson test -C build-test --no-rebuild --suite web --print-errorlogs

# examples/recipes in every language, on each store. What Debian does not have comes from npm, into build-recipes/.
test-recipes: recipes-deps build-test/build.ninja
	@ninja -C build-test --quiet nanoq
	@[ -d build-recipes/node_modules/better-sqlite3/build ] || { mkdir -p build-recipes && npm install --silent --no-save --prefix build-recipes mysql2@3 \
	    better-sqlite3@$$(node -p 'parseInt(process.versions.node) < 20 ? 11 : 12'); }
	@NANOQ_RECIPES_REQUIRED=1 NODE_PATH=build-recipes/node_modules NANOQ=build-test/nanoq \
	    tests/with-mariadb python3 tests/e2e/test_recipes.py

# The binary interface beside that of the last tag: docs/abi.md. And whether breaks that are planted are found.
check-abi: build-deps
	@tools/deps abi
	@tools/check-abi
	@tests/abi

# Debian packages that a goal needs.
build-deps test-deps metrics-deps web-deps recipes-deps:
	@tools/deps $(@:-deps=)

# The library goes where the linker of this distribution looks; ldconfig follows, unless DESTDIR is set.
install: all
	@tools/install $(BUILD) $(PREFIX)

uninstall:
	@ninja -C $(BUILD) --quiet uninstall
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || { PATH=$$PATH:/usr/sbin:/sbin; ldconfig; }

# The documents as pages that need no network: build/site/index.html. A link that leads nowhere is an error.
site: all
	@tools/deps site
	@tools/site $(BUILD)/site $(BUILD)

# Each way of README.md and docs/install.md to the first task, in a Debian that has nothing but its base, timed; as root, with debootstrap.
test-install:
	@tests/install $(or $(SUITE),bookworm)

# The amalgamation by every compiler that is here, or that another Debian has (make test-compilers SUITE=trixie), at each level, on 32 bits,
# and static with musl.
test-compilers:
	@$(if $(SUITE),,tools/deps compilers &&) tests/compilers/run $(SUITE)

# The Debian packages, built, looked at and tried in a Debian of their own: make deb SUITE=trixie
deb:
	@tools/deb $(or $(SUITE),bookworm)

# A release: the same bytes from the same commit, wherever it is made.
dist:
	@tools/dist $(BUILD)-dist

# All of the above that tests, and whether version and changelog are those of a release: hours.
release-check: build-deps
	@tools/release-check

clean:
	@rm -rf build build-*

.PHONY: all site demo test tidy check check-abi dist fault fault-sanitized model fuzz valgrind coverage test-mysql test-mariadb11 test-galera test-group test-groups test-cluster test-metrics test-web test-recipes release-check bench counts bench-peers build-deps test-deps metrics-deps web-deps recipes-deps install uninstall test-install clean deb test-compilers
