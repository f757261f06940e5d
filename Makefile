# make help  says what there is.

VENV ?= .venv
BIN := $(VENV)/bin
DEMO := build/demo
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The first of these that runs, is new enough and can make environments; or PYTHON=... as given.
USABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	if $$python -c "$(USABLE)" 2>/dev/null; then echo $$python; break; fi; done)

.PHONY: help demo test lint types clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*##/make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.base $(DEMO)/sample.wav  ## who spoke when in a real telephone call, against its reference
	$(BIN)/wavlm-meeting diarize $(DEMO)/sample.wav --out $(DEMO)
	$(BIN)/wavlm-meeting score diarization $(DEMO)/reference/sample.rttm $(DEMO)/sample.rttm
	$(BIN)/wavlm-meeting report timeline $(DEMO)/sample.rttm \
		--reference $(DEMO)/reference/sample.rttm --out $(DEMO)/timeline.png

test: $(VENV)/.dev  ## run every test; PYTEST="-k audio" runs some
	$(BIN)/pytest $(PYTEST)

lint: $(VENV)/.dev types  ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# mypy cannot follow the editable install's map, so it reads an installed copy.
types: $(VENV)/.dev  ## check types
	rm -rf build/lib build/bdist.* build/types
	$(PIP) install -qq --no-deps --target build/types .
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml --package wavlm_meeting

clean:  ## remove the environment and everything that was made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# The environment: the base for the demo, then what the tests need on top. Made anew where the
# dependencies or their pins have changed.
$(VENV)/.base: pyproject.toml constraints.txt
	$(call make_environment,.)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call make_environment,.[dev])
	@touch $(VENV)/.base $@

define make_environment
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with its venv module is needed:" \
		"install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing $(1) into $(VENV): several GB the first time, then a cache serves."
	$(PIP) install -qq -c constraints.txt -e '$(1)'
endef

# A telephone call of 30 s with its reference, from the wheel of pyannote.audio (MIT licence).
$(DEMO)/sample.wav: | $(VENV)/.base
	rm -rf $(DEMO) && mkdir -p $(DEMO)/reference
	$(PIP) download -qq --no-deps --only-binary :all: -c constraints.txt -d $(DEMO) pyannote.audio
	$(BIN)/python -m zipfile -e $(DEMO)/pyannote_audio-*.whl $(DEMO)/wheel
	mv $(DEMO)/wheel/pyannote/audio/sample/sample.rttm $(DEMO)/reference/
	mv $(DEMO)/wheel/pyannote/audio/sample/sample.wav $(DEMO)/
	rm -r $(DEMO)/wheel $(DEMO)/pyannote_audio-*.whl
	@touch $@
