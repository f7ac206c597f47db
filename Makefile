# selfckpt. `make` needs Debian 12 (or a machine with gcc -m32 and rustup) and nothing set up before.
#   make            the library and the command          make install PREFIX=/usr/local DESTDIR=
#   make demo       shows the main job                    make test, make lint, make bench

PREFIX  ?= /usr/local
BUILD   := $(CURDIR)/build
TARGET  := $(CURDIR)/target
I686    := i686-unknown-linux-gnu
# Named although it is the default: with it, cargo compiles what the two builds share only once.
HOST    := x86_64-unknown-linux-gnu
VERSION  = $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
ROOT     = $(DESTDIR)$(PREFIX)
CARGO    = . build/toolchain.env && "$$CARGO"
FLAGS    = --offline --locked --target-dir "$(TARGET)"
INSTALL  = install -D -m

.PHONY: all setup build programs test soak lint demo bench install uninstall deb clean distclean help
.NOTPARALLEL:

all: build ## the library and the command, and all that they need (default)
	@echo "selfckpt: built build/libselfckpt.so (i686) and build/selfckpt"

setup: # compiler, Rust toolchain, crates: once, over the network
	@scripts/setup.sh

build: setup
	@$(CARGO) build $(FLAGS) --profile preload --quiet --lib --target $(I686)
	@$(CARGO) build $(FLAGS) --release --quiet --bin selfckpt --target $(HOST)
	@cmp -s target/$(I686)/preload/libselfckpt.so build/libselfckpt.so || \
		$(INSTALL) 755 target/$(I686)/preload/libselfckpt.so build/libselfckpt.so
	@cmp -s target/$(HOST)/release/selfckpt build/selfckpt || \
		$(INSTALL) 755 target/$(HOST)/release/selfckpt build/selfckpt

programs: build # what the tests run: our own C programs, the examples, and Debian's i386 programs
	@scripts/compile-programs.sh tests/programs build/programs
	@scripts/languages-root.sh
	@scripts/compile-programs.sh examples build/examples
	@scripts/i386-root.sh
	@scripts/slurm-root.sh

test: programs lint ## all tests
	$(CARGO) test $(FLAGS) --release --lib --target $(I686)
	SELFCKPT_BUILD="$(BUILD)" && export SELFCKPT_BUILD && $(CARGO) test $(FLAGS) --release --no-fail-fast --target $(HOST)

soak: programs ## jobs that are killed at random moments, for SECONDS=600
	SELFCKPT_BUILD="$(BUILD)" && SELFCKPT_SOAK=$(or $(SECONDS),600) && export SELFCKPT_BUILD SELFCKPT_SOAK && \
		$(CARGO) test $(FLAGS) --release --target $(HOST) --test it -- --nocapture soak

lint: setup ## rustfmt and clippy
	@scripts/lint.sh

demo: build ## run, checkpoint, SIGKILL, restart, compare the output
	@scripts/i386-root.sh
	@scripts/demo.sh

bench: build ## the benchmark table
	@scripts/i386-root.sh
	@scripts/bench.sh

install: ## needs `make` before; PREFIX=/usr/local DESTDIR=
	@test -e build/libselfckpt.so && test -e build/selfckpt || { echo "selfckpt: nothing to install: run make first" >&2; exit 1; }
	$(INSTALL) 755 build/libselfckpt.so "$(ROOT)/lib/selfckpt/i686/libselfckpt.so"
	$(INSTALL) 755 build/selfckpt "$(ROOT)/bin/selfckpt"
	$(INSTALL) 644 include/selfckpt.h "$(ROOT)/include/selfckpt.h"
	@mkdir -p "$(ROOT)/lib/pkgconfig"
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' selfckpt.pc.in >"$(ROOT)/lib/pkgconfig/selfckpt.pc"
	@mkdir -p "$(ROOT)/share/man/man1" "$(ROOT)/share/bash-completion/completions"
	build/selfckpt help --man >"$(ROOT)/share/man/man1/selfckpt.1"
	for verb in $$(build/selfckpt help --commands); do build/selfckpt help --man $$verb >"$(ROOT)/share/man/man1/selfckpt-$$verb.1" || exit 1; done
	build/selfckpt help --completion >"$(ROOT)/share/bash-completion/completions/selfckpt"
	@chmod 644 "$(ROOT)"/lib/pkgconfig/selfckpt.pc "$(ROOT)"/share/man/man1/selfckpt*.1 "$(ROOT)"/share/bash-completion/completions/selfckpt

uninstall: ## the same PREFIX and DESTDIR as for install
	rm -f "$(ROOT)/lib/selfckpt/i686/libselfckpt.so" "$(ROOT)/bin/selfckpt" "$(ROOT)/include/selfckpt.h" "$(ROOT)/lib/pkgconfig/selfckpt.pc"
	rm -f "$(ROOT)"/share/man/man1/selfckpt.1 "$(ROOT)"/share/man/man1/selfckpt-*.1 "$(ROOT)"/share/bash-completion/completions/selfckpt
	@-rmdir "$(ROOT)/lib/selfckpt/i686" "$(ROOT)/lib/selfckpt" 2>/dev/null

deb: build ## a Debian package, build/selfckpt_VERSION_amd64.deb
	@scripts/deb.sh "$(VERSION)"

clean: ## what was compiled; the toolchain and the i386 programs stay
	rm -rf target build/libselfckpt.so build/selfckpt build/programs build/examples

distclean: ## all of it
	rm -rf target build

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 18
