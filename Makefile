# Each target makes its own virtual environment; nothing else is installed or changed. gpu-check makes none.
PYTHON ?= python3

.PHONY: demo docs test test-slow test-free-threaded fuzz big bench figures asv history history-point lint wheels arm gpu-check clean

demo: .venv-demo/ready
	.venv-demo/bin/python -m nbloss demo

test: .venv-test/ready
	.venv-test/bin/python -m pytest -n auto --dist worksteal
	.venv-test/bin/python -m pytest -n auto --dist worksteal tests/interop
	.venv-test/bin/python -m pytest -n auto --dist worksteal tests/cuda_sim
	.venv-test/bin/python -m pytest -n auto --dist worksteal tests/cuda_host

test-slow: .venv-test/ready
	NBLOSS_SLOW=1 .venv-test/bin/python -m pytest -n auto --dist worksteal tests/functional

fuzz: .venv-test/ready
	NBLOSS_FUZZ=everything NBLOSS_FUZZ_CASES=100000 .venv-test/bin/python -m pytest -n auto tests/system/test_fuzz.py -k new_cases

big: .venv-test/ready
	.venv-test/bin/python -m pytest -m big --durations=0 tests/system/test_big.py tests/test_evaluate.py

test-free-threaded: .venv-free-threaded/ready
	.venv-free-threaded/bin/python -m pytest tests/kernels/cpu/compile/test_threads.py tests/test_fork_safety.py \
		tests/system/test_determinism.py

bench: .venv-bench/ready
	.venv-bench/bin/python -m nbloss bench

figures: .venv-bench/ready
	.venv-bench/bin/python -m nbloss bench --json docs/bench.json --png docs/bench.png --fill docs/overview.md docs/performance.md
	.venv-bench/bin/python -m nbloss bench --op all --shape all --peers nbloss torch torch.compile jax --json docs/operations.json --fill docs/operations.md
	.venv-bench/bin/python -m nbloss bench scaling --json docs/scaling.json --png docs/scaling.png
	.venv-bench/bin/python -m nbloss bench --options --json docs/options.json --fill docs/bench-options.md
	.venv-bench/bin/python -m nbloss bench --interop --json docs/interop.json --fill docs/bench-interop.md
	.venv-bench/bin/python -m nbloss bench --linear --json docs/linear.json --fill docs/bench-linear.md
	.venv-bench/bin/python -m nbloss bench --evaluate --json docs/evaluate.json --fill docs/bench-evaluate.md
	.venv-bench/bin/python -m nbloss bench --variants --json docs/variants.json --png docs/variants.png --fill docs/performance.md

asv: .venv-bench/ready
	.venv-bench/bin/asv run --quick --python=same

# measures the last commit on this machine: docs/history.md
history-point: .venv-bench/ready
	.venv-bench/bin/python tools/history point HEAD

# a warning is an error: mkdocs.yml is strict
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --site-dir site
	$(MAKE) history

# asv's pages, where docs/history.md of the built site links to them
history: .venv-docs/ready
	.venv-docs/bin/python tools/history pages site/history/commits

lint: .venv-lint/ready
	.venv-lint/bin/ruff check .
	.venv-lint/bin/ruff format --check .
	.venv-lint/bin/mypy
	.venv-lint/bin/mypy --strict --warn-unused-ignores tests/typing/usage.py
	.venv-lint/bin/stubtest nbloss.functional nbloss.modules
	@if command -v node >/dev/null; then .venv-lint/bin/pyright; else echo "pyright is left out: it needs Node.js"; fi

wheels:
	$(PYTHON) tools/build_wheels

arm: .venv-test/ready
	tools/arm

# with what is installed: a machine with a GPU may have no network
gpu-check:
	$(PYTHON) tools/gpu_check

.venv-demo/ready: pyproject.toml
	@echo "1 of 3: a virtual environment, .venv-demo"
	@$(PYTHON) -m venv .venv-demo
	@echo "2 of 3: pip downloads Numba, NumPy, scikit-learn and Matplotlib, some 200 MB"
	@NBLOSS_PRECOMPILED=0 .venv-demo/bin/python -m pip install --quiet ".[demo]"
	@echo "3 of 3: nbloss compiles its kernels for this machine, one to four minutes of two cores"
	@.venv-demo/bin/python -m pip install --quiet --no-deps --force-reinstall .
	@touch $@

.venv-test/ready: pyproject.toml
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	NBLOSS_PRECOMPILED=0 .venv-test/bin/python -m pip install --quiet -e ".[demo,cuda]" --group test
	touch $@

.venv-free-threaded/ready: pyproject.toml
	python3.14t -m venv .venv-free-threaded
	NBLOSS_PRECOMPILED=0 .venv-free-threaded/bin/python -m pip install --quiet -e . pytest hypothesis ml_dtypes
	touch $@

.venv-bench/ready: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -e ".[bench]"
	touch $@

.venv-docs/ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	NBLOSS_PRECOMPILED=0 .venv-docs/bin/python -m pip install --quiet -e ".[docs]"
	touch $@

.venv-lint/ready: pyproject.toml
	$(PYTHON) -m venv .venv-lint
	.venv-lint/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	NBLOSS_PRECOMPILED=0 .venv-lint/bin/python -m pip install --quiet -e . --group lint
	touch $@

clean:
	rm -rf .venv-demo .venv-docs .venv-test .venv-free-threaded .venv-bench .venv-lint build dist site nbloss-demo.png nbloss/_compiled
	rm -rf .asv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path "./.git/*" -prune -exec rm -rf {} +
