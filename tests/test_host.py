"""OLLAMA_HOST in every form that Ollama itself accepts."""

import pytest

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.host import parse_host

FORMS = [
    ("", "http://127.0.0.1:11434"),
    ("   ", "http://127.0.0.1:11434"),
    ("1.2.3.4", "http://1.2.3.4:11434"),
    (":1234", "http://127.0.0.1:1234"),
    ("1.2.3.4:1234", "http://1.2.3.4:1234"),
    ("gpu-box", "http://gpu-box:11434"),
    ("gpu-box:9", "http://gpu-box:9"),
    (":0", "http://127.0.0.1:0"),
    ("[::1]", "http://[::1]:11434"),
    ("::1", "http://[::1]:11434"),
    ("[::1]:1337", "http://[::1]:1337"),
    ("2001:db8::7", "http://[2001:db8::7]:11434"),
    ("[2001:db8::7]:80", "http://[2001:db8::7]:80"),
    (" 1.2.3.4 ", "http://1.2.3.4:11434"),
    ('"1.2.3.4"', "http://1.2.3.4:11434"),
    ("'1.2.3.4:5'", "http://1.2.3.4:5"),
    (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
    ("http://1.2.3.4", "http://1.2.3.4:80"),
    ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
    ("https://gpu-box", "https://gpu-box:443"),
    ("HTTPS://gpu-box", "https://gpu-box:443"),
    ("https://gpu-box:4321", "https://gpu-box:4321"),
    ("https://gpu-box/ollama", "https://gpu-box:443/ollama"),
    ("https://gpu-box:8443/a/b/", "https://gpu-box:8443/a/b"),
    ("gpu-box:8443/ollama", "http://gpu-box:8443/ollama"),
    ("http://[::1]:99/x", "http://[::1]:99/x"),
    ("ollama.com", "https://ollama.com:443"),
    ("http://ollama.com", "http://ollama.com:80"),
]

SERVER_ONLY = [
    ("0.0.0.0", "http://127.0.0.1:11434"),
    ("0.0.0.0:5000", "http://127.0.0.1:5000"),
    ("::", "http://[::1]:11434"),
    ("[::]", "http://[::1]:11434"),
    ("[::]:5000", "http://[::1]:5000"),
    ("http://0.0.0.0", "http://127.0.0.1:80"),
]

BAD_PORTS = [
    (":66000", 11434),
    (":-1", 11434),
    ("gpu-box:", 11434),
    ("gpu-box:eighty", 11434),
    ("http://gpu-box:x", 80),
    ("https://gpu-box:70000", 443),
    ("1.2.3.4:٣", 11434),
]


@pytest.mark.parametrize(("text", "url"), FORMS)
def test_every_form_of_the_contract_gives_the_address_that_ollama_would_call(text, url):
    address = parse_host(text)
    assert (address.url, address.warning) == (url, "")


@pytest.mark.parametrize(("text", "url"), SERVER_ONLY)
def test_an_address_to_listen_on_everywhere_becomes_loopback_for_a_client(text, url):
    assert parse_host(text).url == url


@pytest.mark.parametrize(("text", "port"), BAD_PORTS)
def test_a_bad_port_is_replaced_by_the_schemes_own_with_a_warning(text, port):
    address = parse_host(text)
    assert address.port == port
    assert "is not a port" in address.warning


def test_other_schemes_are_refused():
    with pytest.raises(BadInput, match="scheme is 'ftp'"):
        parse_host("ftp://1.2.3.4")


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("", True),
        ("localhost:1", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", True),
        ("gpu-box", False),
        ("10.0.0.1", False),
        ("https://localhost.example", False),
    ],
)
def test_loopback_is_told_from_the_rest(text, loopback):
    assert parse_host(text).is_loopback is loopback


def test_a_port_of_thousands_of_digits_is_no_port():
    assert parse_host("http://h:" + "1" * 5000).port == 80
