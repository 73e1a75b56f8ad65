"""What runs for long: the address that stands in front of a runtime, and remembers.

    server     one process: everything below put together, and run
    guard      who may call: token, Host, Origin       desk       /ollama-ft/…: status, feedback
    proxy      the four paths that are understood      names      a family's name → its live version
    forward    every request, passed on over HTTP      listing    /api/tags as the names say
    writer     off the request's path: to the log      spool      what survives a kill
    counts     how many came, how many were lost       redaction  what is personal, taken out
    librarian  documents' passages before a question   knowledge  what the shelf holds about one
    importing  what people have already                queue      what is worth a person's minute

A request goes guard → desk or proxy → the runtime: over HTTP, or in this process if it is our own.
"""
