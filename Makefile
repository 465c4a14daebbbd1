# Two commands: `make demo` shows what this is, `make test` says whether it holds. Both set up what they need.
.PHONY: demo test bench setup

demo: setup
	@scripts/demo

test: setup
	@scripts/test

bench: setup
	@scripts/bench

setup:
	@scripts/setup
