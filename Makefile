# Every target prepares its own environment (ops/environment.py): nothing is needed but Python 3.11 or 3.12.
#
#   make demo              everything on this machine, until Ctrl-C; FOR=120 ends after 120 seconds, JSON=1 adds
#                          one JSON object as the last line
#   make test              all checks, and all tests against real services
#   make check             the quick part, in minutes: style, types, layers, and the tests that need no service and are
#                          not slow
#   make test-benchmarks   the tests that need the packages that recommendation is compared with
#   make sbom              a bill of materials of the product (CycloneDX), headgate.cdx.json
#   make fuzz              hostile input, steered by coverage: FOR=300 seconds for each target (60), findings in
#                          fuzz-findings, JSON=1 adds one JSON object as the last line
#   make bench             throughput against stock Faust, Quix Streams and Bytewax
#   make clean-environment remove the cached environments

PYTHON ?= python3
RUN := .venv/bin
# Two processes, each with services of its own: much of a test's time is waiting. One where servers are given.
GIVEN := $(HEADGATE_TEST_KAFKA)$(HEADGATE_TEST_DATABASE)$(HEADGATE_TEST_REDIS)
AT_ONCE := $(if $(GIVEN),,--numprocesses 2 --no-loadscope-reorder)
# Compiled modules are kept, whatever the user's environment says: else each process compiles every test again.
unexport PYTHONDONTWRITEBYTECODE
# -I: the scripts in ops/ see the standard library only, not the modules beside them.

.PHONY: demo test check test-benchmarks sbom fuzz bench environment benchmark-environment fuzz-environment style \
	clean-environment
.NOTPARALLEL:

demo: environment
	@$(RUN)/headgate demo $(if $(FOR),--for $(FOR)) $(if $(JSON),--json)

test: environment style
	@$(PYTHON) -I ops/system_packages.py
	$(RUN)/python -m pytest $(AT_ONCE)

check: environment style
	$(RUN)/python -m pytest $(AT_ONCE) -m "not service and not slow"

test-benchmarks: benchmark-environment
	.venv-benchmarks/bin/python -m pytest -m benchmarks

sbom: environment
	@$(PYTHON) -I ops/environment.py --sbom
	$(RUN)/python -m ops.sbom headgate.cdx.json

fuzz: fuzz-environment
	.venv-fuzz/bin/python -m tests.fuzz $(if $(FOR),--for $(FOR)) $(if $(JSON),--json)

bench: environment
	@$(RUN)/headgate bench throughput $(if $(JSON),--json)

style:
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

environment:
	@$(PYTHON) -I ops/environment.py

benchmark-environment:
	@$(PYTHON) -I ops/environment.py --benchmarks

fuzz-environment:
	@$(PYTHON) -I ops/environment.py --fuzz

clean-environment:
	@$(PYTHON) -I ops/environment.py --remove
