# Two commands: `make demo` shows what it does, `make test` proves it. Both set themselves up.
# `make demo-routes` does the demo where the runtime refuses routes, on a small set.
.PHONY: demo loop-demo demo-routes test fuzz check docs clean

PY  := .venv/bin/python
FT  := .venv/bin/ollama-ft
OUT := .demo
export OLLAMA_FT_HOME = $(CURDIR)/$(OUT)

.venv/ready: pyproject.toml constraints.txt
	test -d .venv || python3 -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Where the gate finds too few questions to tell, the demo goes on by force.
FORCED = { test $$? = 4 && $(FT) promote $(1) --force --reason "too few questions, for a demo"; }

demo: export OLLAMA_HOST = embedded
demo: .venv/ready
	rm -rf $(OUT)
	test -z "$(RUNS)" || { mkdir -p $(RUNS) $(OUT)/data && cp -r $(RUNS) $(OUT)/data/; }
	$(FT) new --from smollm2:135m --data $(DATA) $(HOW) || $(call FORCED,v1)
	$(FT) list
	$(FT) run "$(QUESTION)"
	$(FT) train --data $(MORE) $(HOW) || $(call FORCED,v2)
	$(FT) run "$(LATER)"
	$(FT) diff v1 v2
	$(FT) show v2
	$(FT) rollback --reason "to see the way back"
	$(FT) run "$(LATER)"
	$(FT) rollback v0 --reason "all the way"
	$(FT) run "$(QUESTION)"
	$(FT) promote v2 --reason "the best so far" || $(call FORCED,v2)
	$(FT) history
	$(FT) list

loop-demo: .venv/ready
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt ollama openai
	$(PY) -m benchmarks.loop_demo

SMALL := $(OUT)-small
# What the first demo trained is read back by the others. Eight questions show no small loss, so the
# gate is a lenient one: this is about how versions get to a runtime.
demo-routes:
	rm -rf $(SMALL)
	mkdir -p $(SMALL)
	head -n 32 data/faq.jsonl > $(SMALL)/first.jsonl
	head -n 32 data/faq-more.jsonl > $(SMALL)/then.jsonl
	printf 'suites: []\nalpha: 0.2\ndomain_margin: 0.5\n' > $(SMALL)/gate.yaml
	for refused in adapters adapters,files adapters,files,registry,store; do \
		OLLAMA_FT_EMBEDDED_REFUSE=$$refused OLLAMA_FT_GATE=$(SMALL)/gate.yaml $(MAKE) demo \
			DATA=$(SMALL)/first.jsonl \
			MORE=$(SMALL)/then.jsonl HOW="--set epochs=5 --set retain=0" \
			RUNS=$(SMALL)/runs || exit 1; \
		cp -r $(OUT)/data/runs $(SMALL)/; \
	done

DATA     := data/faq.jsonl
MORE     := data/faq-more.jsonl
HOW      :=
RUNS     :=
QUESTION := How many hours will the Wren's battery hold out on a hike?
LATER    := Which version of the firmware is the latest?

test: .venv/ready
	$(PY) -m pytest -q -n 2 --dist loadfile

fuzz: .venv/ready
	for n in $$(seq $${ROUNDS:-10}); do \
		$(PY) -m pytest -q -m hypothesis --hypothesis-profile=fuzz || exit 1; \
	done

check: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/cog --check README.md docs/commands.md docs/catalog.md
	$(PY) -m pytest -q -n 2 --dist loadfile

docs: .venv/ready
	.venv/bin/cog -r README.md docs/commands.md docs/catalog.md

clean:
	rm -rf $(OUT) $(SMALL) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
