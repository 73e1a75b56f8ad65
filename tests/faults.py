"""A client of a real runtime, with one fault put in its way."""

import json

import httpx

from ollama_ft.runtime.client import Ollama


class Faulty(httpx.HTTPTransport):
    """The network, with one fault: `change` may answer, or change, a JSON request in its place."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.asked = []

    def handle_request(self, request):
        body = (
            json.loads(request.read() or b"{}")
            if request.method == "POST" and "blobs" not in request.url.path
            else {}
        )
        self.asked.append((request.method, request.url.path, body))
        return self.change(request.url.path, body) or super().handle_request(request)


def faulty(address, change):
    transport = Faulty(change)
    return Ollama(address, transport=transport), transport.asked
