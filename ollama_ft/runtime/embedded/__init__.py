"""Ollama's HTTP API over llama.cpp, on a store in Ollama's layout.

Run it with `python -m ollama_ft.runtime.embedded --models DIR`.

    app        the routes, and who may call        replies    JSON and errors as Go writes them
    asks       requests, checked                   options    sampling options and their defaults
    library    what a name stands for              facts      what a GGUF says about itself
    listing    tags, ps                            show       show
    create     create                              uploads    uploaded files as layers
    blobs      uploads                             registry   pull and push
    prompt     from messages to the prompt         fit        from the prompt to tokens that fit
    answer     generation, token by token          talk       generate and chat
    embed      embeddings                          openai     /v1/…
    pool       which engines are loaded            engine     one llama.cpp process
    adapters   does an adapter fit its base        worker     what runs in that process

Beyond Ollama: a base and all versions made on it answer side by side without a reload, names change
in one step, an adapter that does not fit is refused with the reason, and `POST /api/tokenize`
counts tokens.
"""
