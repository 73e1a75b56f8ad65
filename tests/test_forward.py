"""Byte for byte to the runtime and back: which headers go along, and which mean one connection."""

import json
import socket
import threading
from contextlib import contextmanager

import httpx
import pytest

from ollama_ft.runtime.host import parse_host
from tests.rows import a_family, a_version
from tests.serving import a_front
from tests.test_proxy import go_live

ANSWER = b'{"model": "m", "message": {"content": "hi"}, "done": true}\n'


class Plain:
    """A runtime of a few lines that never says 100 Continue; `head` is put into its answers."""

    def __init__(self, listener):
        self.port = listener.getsockname()[1]
        self.asked = []  # (head, body)
        self.head, self.content = "", ANSWER
        self.hangs_up = self.hangs_up_once = False  # instead of an answer
        self._listener = listener

    def run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with connection, connection.makefile("rb") as lines:
            while first := lines.readline():
                head = [first.decode().strip()]
                while line := lines.readline().strip():
                    head.append(line.decode())
                if self.hangs_up or self.hangs_up_once:
                    self.hangs_up_once = False
                    self.asked.append((head, b""))
                    return
                length = next((x[15:] for x in head if x.lower().startswith("content-length:")), 0)
                self.asked.append((head, lines.read(int(length))))
                size = f"Content-Length: {len(self.content)}\r\n"
                start = f"HTTP/1.1 200 OK\r\n{self.head}{size}\r\n".encode()
                connection.sendall(start + self.content)

    def last(self):
        head, body = self.asked[-1]
        return {x.partition(":")[0].lower(): x.partition(":")[2].strip() for x in head[1:]}, body


@contextmanager
def a_plain_runtime():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Plain(listener)
        threading.Thread(target=made.run, daemon=True).start()
        yield made


@pytest.fixture
def runtime():
    with a_plain_runtime() as made:
        yield made


@pytest.fixture
def front(home, db, runtime):
    family = a_family(db)
    go_live(db, [a_version(db, family, number) for number in (0, 1)][1])
    # By name: cookies are not kept for addresses in any case.
    with a_front(home, parse_host(f"localhost:{runtime.port}")) as made:
        yield made


def raw(front, request, seconds=5):
    """The answer to these bytes, as it comes."""
    host, _, port = front.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def question(**more):
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    ).encode()


def test_what_connection_names_is_for_one_connection_in_both_directions(front, runtime):
    runtime.head = "Connection: X-Inner\r\nX-Inner: 1\r\nX-Outer: 1\r\n"
    answer = raw(
        front,
        b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close, X-Mine\r\n"
        b"X-Mine: 1\r\nX-Other: 1\r\nTE: trailers\r\n\r\n",
    ).lower()
    headers, _ = runtime.last()
    assert "x-other" in headers
    assert not {"x-mine", "te", "connection"} & headers.keys()
    assert b"x-outer: 1" in answer
    assert b"x-inner" not in answer


def test_a_length_that_connection_names_still_frames_the_body(front, runtime):
    raw(
        front,
        b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nConnection: close, Content-Length\r\n"
        b"Content-Length: 2\r\n\r\n{}",
    )
    assert runtime.last()[1] == b"{}"


def test_a_client_that_expects_a_go_ahead_is_answered_whatever_the_runtime_does(front, runtime):
    body = question()
    answer = raw(
        front,
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
    )
    assert ANSWER in answer
    assert runtime.last() == (runtime.last()[0], body)


def test_one_clients_cookies_are_never_sent_for_another(front, runtime):
    runtime.head = "Set-Cookie: session=ada; Path=/\r\n"
    assert front.http.get("/api/version").headers["set-cookie"] == "session=ada; Path=/"
    httpx.get(f"{front.url}/api/version", trust_env=False)
    assert "cookie" not in runtime.last()[0]
    httpx.get(f"{front.url}/api/version", headers={"Cookie": "session=bob"}, trust_env=False)
    assert runtime.last()[0]["cookie"] == "session=bob"


@pytest.mark.parametrize("method", [b"OPTIONS", b"GET"])
def test_a_target_that_is_no_path_is_refused(front, runtime, method):
    request = b"%s * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % method
    assert b" 400 " in raw(front, request).partition(b"\r\n")[0]
    assert runtime.asked == []


@pytest.mark.parametrize(
    "target", ["/v1/models/a%2Fb%3Fc%20d", "/api/a%20b?q=%41&r=%2F", "//x/%2e"]
)
def test_a_path_reaches_the_runtime_as_it_was_written(front, runtime, target):
    raw(front, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert runtime.asked[-1][0][0] == f"GET {target} HTTP/1.1"


def test_requests_that_come_at_once_are_answered_in_their_order(front, runtime):
    requests = b"".join(
        b"GET /api/%d HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
        % (number, b"Connection: close\r\n" if number == 2 else b"")
        for number in range(3)
    )
    assert raw(front, requests).count(b"HTTP/1.1 200") == 3
    assert [head[0].split()[1] for head, _ in runtime.asked] == ["/api/0", "/api/1", "/api/2"]


def test_a_question_that_a_runtime_dies_of_is_not_sent_twice(front, runtime):
    runtime.hangs_up = True
    assert front.http.post("/api/chat", content=question()).status_code == 502
    assert len(runtime.asked) == 1


def test_a_question_is_sent_again_where_a_kept_connection_was_closed(front, runtime):
    front.http.post("/api/chat", content=question())
    runtime.hangs_up_once = True
    assert front.http.post("/api/chat", content=question()).status_code == 200
    assert len(runtime.asked) == 3


def test_a_packed_answer_stays_as_it_is_marked(front, runtime):
    runtime.head, runtime.content = "Content-Encoding: gzip\r\n", b"\x1f\x8b packed"
    asked = b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = raw(front, asked)
    assert b"content-encoding: gzip" in answer.lower()
    assert answer.endswith(runtime.content)


@pytest.mark.parametrize("path", ["/api/show", "/api/chat", "/v1/models/bot"])
def test_an_answer_whose_names_are_changed_is_asked_for_unpacked(front, runtime, path):
    headers = {"Accept-Encoding": "gzip", "X-Ollama-FT-No-Log": "1"}
    if path.startswith("/v1"):
        front.http.get(path, headers=headers)
    else:
        front.http.post(path, content=question(model="bot"), headers=headers)
    assert runtime.last()[0]["accept-encoding"] == "identity"


def test_a_name_that_stands_twice_beside_half_a_surrogate_pair_is_still_resolved(front, runtime):
    body = b'{"model": "bot", "messages": [{"role": "user", "content": "\\ud83d"}], '
    front.http.post("/api/chat", content=body + b'"more": {"model": "bot"}}')
    said = json.loads(runtime.last()[1])
    assert (said["model"], said["more"]["model"]) == ("bot:v1", "bot")
    assert said["messages"][0]["content"] == "\ud83d"


def test_the_runtimes_own_key_goes_with_calls_that_bring_none(home, db, runtime):
    address, env = parse_host(f"127.0.0.1:{runtime.port}"), {"OLLAMA_API_KEY": "theirs"}
    with a_front(home, address, token="ours", env=env) as front:
        front.http.get("/api/version", headers={"Authorization": "Bearer ours"})
        assert runtime.last()[0]["authorization"] == "Bearer theirs"
    with a_front(home, address, env=env) as front:
        front.http.get("/api/version", headers={"Authorization": "Bearer mine"})
        assert runtime.last()[0]["authorization"] == "Bearer mine"
