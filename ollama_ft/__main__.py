"""`python -m ollama_ft` is `ollama-ft`."""

from ollama_ft.cli.app import main

main()
