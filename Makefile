# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TYPED := build/typed
FOLDERS := evaluation export pruner runtimes

.PHONY: setup demo native native-arm64 emulated-phone android-apk android-test web-demo web-test ios-bundle ios-test \
	test test-slow lint typecheck clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	# torch first: what comes after it must not choose another version.
	$(BIN)/python -m pip install -q "torch==2.13.0"
	$(BIN)/python -m pip install -q -e ".[all,dev]"
	touch $@

demo: setup
	$(BIN)/python benchmarks/demo.py

# The C++ library and runner, in build/native/host and build/native/arm64: docs/libvlmp.md, docs/native-runner.md.
native: setup
	$(BIN)/python runtimes/native/build.py host

native-arm64: setup
	$(BIN)/python runtimes/native/build.py arm64

# vlmp-profile over adb without a phone, in build/emulated-phone: docs/profile-on-a-phone.md.
emulated-phone: setup
	$(BIN)/python tests/runtimes/profile/emulated_phone.py

# The Android demo, in build/android, and its tests on the desktop: docs/android.md.
android-apk: setup
	$(BIN)/python android_demo/build_apk.py apk

android-test: setup
	$(BIN)/python -m pytest tests/android

# The browser demo on localhost, and its tests: docs/web.md.
web-demo: setup
	$(BIN)/python web_demo/build_web.py serve

web-test: setup
	$(BIN)/python -m pytest tests/web

# vlmp-tiny for Core ML, pruned and unpruned, which Xcode puts into the iOS demo: docs/ios.md.
ios-bundle: setup
	$(BIN)/vlmp-export --model vlmp-tiny --target coreml --output ios_demo/App/Bundles/tiny-pruned --overwrite
	$(BIN)/vlmp-export --model vlmp-tiny --target coreml --pruner none --output ios_demo/App/Bundles/tiny-unpruned --overwrite

# The Swift package and the app of the iOS demo, on Linux: docs/ios.md.
ios-test: setup
	$(BIN)/python -m pytest -m ios tests/ios

# A file's tests stay in one process: they share what they have exported. Each process has one core: threads of PyTorch
# that wait for a core of their own would keep the other process from it.
test: lint typecheck
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 40 --durations-min 5

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The folders are imported as vlmp.<folder>; links of those names let the type checker resolve them as users do.
typecheck: setup
	mkdir -p $(TYPED)/vlmp
	for folder in $(FOLDERS); do ln -sfn ../../../$$folder $(TYPED)/vlmp/$$folder; done
	MYPYPATH=$(TYPED) $(BIN)/mypy $(FOLDERS:%=-p vlmp.%)

clean:
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache
	rm -rf web_demo/build web_demo/dist web_demo/node_modules web_demo/vlmp-web/build web_demo/vlmp-web/dist
