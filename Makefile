# Every target makes what it needs: the virtual environment, the extension modules, the peer's environment.
#
#   PYTHON=python3.12           the interpreter to make the environment with
#   TORCH="torch==2.13.0"       the torch to build against and to run with
#   TORCH_PIP_ARGS="..."        more arguments for installing torch, such as an index of CPU builds
#   OTHER_TORCH="torch==2.6.0"  the releases of torch that `make other-torch` compiles the bridge beside
#   METEORS_C_WERROR=1          compiler warnings are errors
#   SCENE=path/to/0.npz         a real field for `make demo`
#   ARGS="-k occlusion"         more arguments for pytest or for the benchmarks
PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(if $(shell command -v $(name)),$(name))))
TORCH ?= torch==2.13.0
TORCH_PIP_ARGS ?=
OTHER_TORCH ?= torch==2.6.0 torch==2.14.1
ARGS ?=
# A bridge that does not compile is an error here, not a warning.
export METEORS_C_TORCH ?= required

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# Named after TORCH: another one is installed anew, and the bridge built for it.
TORCH_INSTALLED := $(VENV)/.torch-$(subst /,_,$(TORCH))
PEER := .venv-peer
METEORS_PEER_PYTHON ?= $(PEER)/bin/python

SOURCES := $(wildcard src/*/*.c src/*/*.cpp src/*/*.h src/*/*/*.cpp src/*/*/*.h)
C_FILES := $(wildcard src/core/*.c tests/core/*.c)
CXX_FILES := src/torch_bridge/schedule.cpp $(wildcard tests/torch_bridge/*.cpp)
TESTED := $(C_FILES:.c=) $(CXX_FILES:.cpp=)
FORMATTED := $(SOURCES) $(wildcard tests/core/*.c tests/core/*.h tests/torch_bridge/*.cpp)

CCACHE := $(shell command -v ccache)
CHECK_FLAGS := -g -fno-math-errno -Wall -Wextra -Wshadow -Wconversion \
    $(if $(filter-out 0,$(METEORS_C_WERROR)),-Werror) -Isrc/core -Isrc/torch_bridge -Itests/core -MMD -MP
C_COMPILE := $(CCACHE) $(CC) -std=c11 -D_POSIX_C_SOURCE=200809L $(CHECK_FLAGS)
CXX_COMPILE := $(CCACHE) $(CXX) -std=c++17 $(CHECK_FLAGS)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build demo test check asan other-torch coverage lint format bench docs linkcheck dist dist-check clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

# --- the environment ---------------------------------------------------------------------------------------------

$(TORCH_INSTALLED):
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(TORCH_PIP_ARGS) "$(TORCH)"
	$(PIP) install "setuptools>=77" "numpy>=2.0"
	rm -f $(VENV)/.torch*
	touch "$@"

build/.built: $(SOURCES) setup.py meteors_c/_version.py $(TORCH_INSTALLED)
	$(PY) setup.py --quiet build_ext --inplace
	touch $@

$(VENV)/.installed: pyproject.toml meteors_c/_version.py | build/.built
	$(PIP) install --no-build-isolation -e ".[test]"
	touch $@

$(VENV)/.lint $(VENV)/.docs $(VENV)/.bench $(VENV)/.dist $(VENV)/.coverage: $(VENV)/.%: pyproject.toml | $(VENV)/.installed
	$(PIP) install --no-build-isolation -e ".[$*]"
	touch $@

$(PEER)/.installed:
	test -x $(PEER)/bin/python || $(PYTHON) -m venv $(PEER)
	$(PEER)/bin/python -m pip --quiet install $(TORCH_PIP_ARGS) "$(TORCH)"
	$(PEER)/bin/python -m pip --quiet install \
	    captum spyndex pydantic scikit-image scikit-learn shap seaborn loguru pandas pyarrow matplotlib
	$(PEER)/bin/python -m pip --quiet install --no-deps meteors==0.2.0
	touch $@

build: build/.built $(VENV)/.installed  ## build the extension modules in place

# --- what a person runs ------------------------------------------------------------------------------------------

demo: build  ## run the notebooks, or those in NOTEBOOK="..."; their pages are linked from out/index.html
	SCENE="$(SCENE)" $(PY) tools/run_notebook.py $(NOTEBOOK)

test: build check  ## run the C tests, then pytest
	$(PY) -m pytest $(ARGS)

check: build/check/run  ## run the C tests alone
	build/check/run

asan: build/asan/run  ## run the C tests under AddressSanitizer and UndefinedBehaviorSanitizer, leaks included
	ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 build/asan/run

other-torch: build $(addprefix build/other/,$(OTHER_TORCH:=.built))  ## compile the bridge beside the oldest and the newest torch too

coverage: build/coverage/run $(VENV)/.coverage build  ## which lines the tests reach, in C and Python; pages in out/coverage
	@mkdir -p out/coverage
	find build/coverage -name "*.gcda" -delete
	build/coverage/run
	$(VENV)/bin/gcovr --filter src/ --txt-summary --html-details out/coverage/core.html build/coverage
	$(PY) -m pytest --cov=meteors_c --cov-report=term --cov-report=html:out/coverage/python $(ARGS)

lint: $(VENV)/.lint build  ## ruff, mypy and clang-format, changing nothing
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(FORMATTED)

format: $(VENV)/.lint  ## put every file into the project's style
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i $(FORMATTED)

bench: $(VENV)/.bench build $(filter $(PEER)/%,$(METEORS_PEER_PYTHON:$(PEER)/bin/python=$(PEER)/.installed))  ## measure against the peer; writes benchmarks/RESULTS.md
	METEORS_PEER_PYTHON=$(METEORS_PEER_PYTHON) $(PY) -m benchmarks $(ARGS)

docs: $(VENV)/.docs build  ## build the documentation in docs/_build/html, without the network
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(PY) tools/check_links.py docs/_build/html

linkcheck: $(VENV)/.docs build  ## look whether the pages that the documentation links are there
	$(PY) -m sphinx -q -b linkcheck docs docs/_build/linkcheck

dist: $(VENV)/.dist build  ## pack the source distribution, and a wheel for this Python and torch, into dist
	rm -rf dist
	$(PY) -m build --no-isolation

dist-check: dist  ## unpack, build, install and run what `make dist` packs
	TORCH="$(TORCH)" TORCH_PIP_ARGS="$(TORCH_PIP_ARGS)" $(PY) tools/dist_check.py

clean:  ## remove what the other targets made, but for the environments
	rm -rf build dist out docs/_build docs/reference docs/gallery docs/costs.md docs/sg_execution_times.rst
	rm -rf *.egg-info .pytest_cache .mypy_cache .ruff_cache meteors_c/*.so
	rm -f $(VENV)/.installed
	find meteors_c tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

# --- beside another torch: its headers and libraries are enough, so nothing that it depends on is installed ---------

build/other/%.built: $(SOURCES) setup.py
	test -f build/other/$*/torch/version.py || \
	    $(PIP) install $(TORCH_PIP_ARGS) --no-deps --no-compile --target build/other/$* "$*"
	METEORS_C_TORCH=build/other/$*/torch METEORS_C_OPTIMISE=-O0 \
	    $(PY) setup.py --quiet build_ext --build-lib build/other/lib-$* --build-temp build/other/temp-$*
	touch $@

# --- the C tests: one executable from the core, what the bridge has that needs no torch, and their tests ---------

build/check/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  $(CC) $<"
	@$(C_COMPILE) -O2 -c $< -o $@

build/check/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	@echo "  $(CXX) $<"
	@$(CXX_COMPILE) -O2 -c $< -o $@

build/asan/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  $(CC) $< with sanitizers"
	@$(C_COMPILE) $(SANITIZE) -O1 -c $< -o $@

build/asan/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	@echo "  $(CXX) $< with sanitizers"
	@$(CXX_COMPILE) $(SANITIZE) -O1 -c $< -o $@

build/coverage/%.o: %.c Makefile
	@mkdir -p $(@D)
	@$(C_COMPILE) --coverage -O0 -c $< -o $@

build/coverage/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	@$(CXX_COMPILE) --coverage -O0 -c $< -o $@

build/check/run: $(TESTED:%=build/check/%.o)
	@$(CXX) $^ -lm -pthread -o $@

build/asan/run: $(TESTED:%=build/asan/%.o)
	@$(CXX) $(SANITIZE) $^ -lm -pthread -o $@

build/coverage/run: $(TESTED:%=build/coverage/%.o)
	@$(CXX) --coverage $^ -lm -pthread -o $@

-include $(TESTED:%=build/check/%.d) $(TESTED:%=build/asan/%.d) $(TESTED:%=build/coverage/%.d)
