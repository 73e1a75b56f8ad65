"""Names of places, logins, and getting past a registry's 401."""

import base64
import json
import os

import httpx
import pytest

from ollama_ft.core.errors import BadInput, RuntimeRefused
from ollama_ft.runtime.oci.access import Access, Challenge, parse_challenge
from ollama_ft.runtime.oci.credentials import Credentials, find_credentials
from ollama_ft.runtime.oci.place import Place

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "path", "tag", "digest"),
    [
        (
            "registry.example:5000/team/support:v2",
            "registry.example:5000",
            "team/support",
            "v2",
            "",
        ),
        ("oci://r.example/a/b/c/d/support", "r.example", "a/b/c/d/support", "", ""),
        ("localhost/bot:V2.1", "localhost", "bot", "V2.1", ""),
        (f"r.example/bot@{DIGEST}", "r.example", "bot", "", DIGEST),
        (f"r.example/bot:v2@{DIGEST}", "r.example", "bot", "v2", DIGEST),
        ("[::1]:5000/bot:v2", "[::1]:5000", "bot", "v2", ""),
        ("https://r.example/bot:v1", "r.example", "bot", "v1", ""),
    ],
)
def test_a_place_is_read_in_all_its_forms(text, host, path, tag, digest):
    place = Place.parse(text)
    assert (place.host, place.path, place.tag, place.digest) == (host, path, tag, digest)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("team/support:v2", "begins with no host"),
        ("support", "begins with no host"),
        ("r.example/Team/support", "is no path"),
        ("r.example/../support", "is no path"),
        ("r.example/a//b", "is no path"),
        ("r.example/bot:-v2", "is no tag"),
        ("r.example/bot:", "is no tag"),
        ("r.example/bot@sha256:12", "is not a digest"),
        ("ftp://r.example/bot", "the scheme"),
        ("user@r.example/bot", "begins with no host"),
        ("r.ex ample/bot", "is no host"),
        (f"r.example/{'a' * 300}", "is no path"),
    ],
)
def test_what_is_no_place_is_refused_with_the_part_that_is_wrong(text, why):
    with pytest.raises(BadInput, match=why):
        Place.parse(text)


@pytest.mark.parametrize(
    ("text", "insecure", "url"),
    [
        ("r.example/bot", False, "https://r.example"),
        ("r.example/bot", True, "http://r.example"),
        ("https://r.example/bot", True, "https://r.example"),
        ("127.0.0.1:5000/bot", False, "http://127.0.0.1:5000"),
        ("https://127.0.0.1:5000/bot", False, "https://127.0.0.1:5000"),
        ("localhost:5000/bot", False, "http://localhost:5000"),
        ("docker.io/me/bot", False, "https://registry-1.docker.io"),
    ],
)
def test_plain_http_is_for_this_machine_or_on_request(text, insecure, url):
    assert Place.parse(text).url(insecure=insecure) == url


def test_plain_http_that_is_not_wanted_is_refused():
    with pytest.raises(BadInput, match="plain http"):
        Place.parse("http://r.example/bot").url(insecure=False)


def login(tmp_path, **config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def packed(text):
    return base64.b64encode(text.encode()).decode()


def test_dockers_login_is_found_under_each_way_to_write_a_host(tmp_path):
    for key in ("r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/"):
        env = login(tmp_path, auths={key: {"auth": packed("ann:pass:word")}})
        found = find_credentials("r.example:5000", env)
        assert (found.user, found.password) == ("ann", "pass:word")
    assert find_credentials("other.example", env) is None


def test_docker_hub_is_kept_under_a_name_of_its_own(tmp_path):
    env = login(tmp_path, auths={"https://index.docker.io/v1/": {"auth": packed("ann:x")}})
    assert find_credentials("docker.io", env).user == "ann"


def test_a_helper_named_for_the_host_is_asked_before_anything_else(tmp_path):
    helper = tmp_path / "docker-credential-vault"
    helper.write_text(
        '#!/bin/sh\nread host\necho "{\\"Username\\":\\"$host\\",\\"Secret\\":\\"s\\"}"\n'
    )
    helper.chmod(0o755)
    env = login(
        tmp_path,
        credHelpers={"r.example": "vault"},
        credsStore="nowhere",
        auths={"r.example": {"auth": packed("ann:x")}},
    )
    assert find_credentials("r.example", env) == Credentials(
        user="r.example", password="s", origin="docker-credential-vault"
    )


def test_the_common_helper_may_give_a_token(tmp_path):
    helper = tmp_path / "docker-credential-desk"
    helper.write_text('#!/bin/sh\necho \'{"Username":"<token>","Secret":"refresh-me"}\'\n')
    helper.chmod(0o755)
    env = login(tmp_path, credsStore="desk")
    assert find_credentials("r.example", env).refresh == "refresh-me"


@pytest.mark.parametrize("name", ["../evil", "a b", "-x"])
def test_a_helper_with_a_path_in_its_name_is_not_run(tmp_path, name):
    with pytest.raises(BadInput, match="no credential helper"):
        find_credentials("r.example", login(tmp_path, credHelpers={"r.example": name}))


@pytest.mark.parametrize("content", ["[1]", "{", '{"auths":{"r.example":{"auth":"%%"}}}'])
def test_a_login_file_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadInput, match=r"login file .*config\.json"):
        find_credentials("r.example", {"DOCKER_CONFIG": str(tmp_path)})


def test_credentials_are_not_printed():
    assert "secret" not in repr(Credentials(user="ann", password="secret", refresh="secret"))


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        (['Basic realm="x"'], Challenge(scheme="basic", realm="x")),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"'],
            Challenge(
                scheme="bearer", realm="https://a/t", service="s", scope="repository:a/b:pull,push"
            ),
        ),
        (
            ['Basic realm="x"', 'bearer Realm="https://a/t"'],
            Challenge(scheme="bearer", realm="https://a/t"),
        ),
        (["Negotiate"], None),
        ([], None),
    ],
)
def test_a_challenge_is_read(headers, challenge):
    assert parse_challenge(headers) == challenge


class Registry:
    """A registry that wants a token, and the place that gives it, behind one transport."""

    def __init__(self, realm="https://auth.example/token", **answer):
        self.realm, self.answer = realm, answer or {"token": "T1"}
        self.requests = []

    def __call__(self, request):
        self.requests.append(
            httpx.Request(
                request.method, request.url, headers=request.headers, content=request.content
            )
        )
        if request.url.host in ("auth.example", "evil.example"):
            return httpx.Response(200, json=self.answer)
        if request.url.host == "cdn.example":
            return httpx.Response(200, content=b"blob")
        if request.headers.get("Authorization") != "Bearer T1":
            asks = f'Bearer realm="{self.realm}",service="r",scope="repository:bot:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": asks})
        if "moved" in request.url.path:
            return httpx.Response(307, headers={"Location": "https://cdn.example/blob"})
        return httpx.Response(200)

    def client(self, credentials=None):
        return httpx.Client(
            transport=httpx.MockTransport(self),
            auth=Access("https://r.example", credentials, insecure=False),
            follow_redirects=True,
        )


def test_a_nobody_gets_a_token_where_one_is_given():
    registry = Registry()
    with registry.client() as client:
        assert client.get("https://r.example/v2/bot").status_code == 200
        assert client.get("https://r.example/v2/bot").status_code == 200
    asked = [str(request.url) for request in registry.requests]
    assert asked == [
        "https://r.example/v2/bot",
        "https://auth.example/token?service=r&scope=repository%3Abot%3Apull",
        "https://r.example/v2/bot",
        "https://r.example/v2/bot",
    ]
    assert "Authorization" not in registry.requests[1].headers


def test_the_password_goes_to_the_token_service_and_the_token_to_the_registry():
    registry = Registry(access_token="T1")
    known = Credentials(user="ann", password="secret", origin="a file")
    with registry.client(known) as client:
        client.get("https://r.example/v2/bot")
    assert [r.headers.get("Authorization") for r in registry.requests] == [
        None,
        known.basic,
        "Bearer T1",
    ]


def test_a_refresh_token_is_traded_in():
    registry = Registry()
    with registry.client(Credentials(refresh="R", origin="a file")) as client:
        assert client.get("https://r.example/v2/bot").status_code == 200
    assert registry.requests[1].method == "POST"
    assert b"grant_type=refresh_token" in registry.requests[1].content
    assert b"refresh_token=R" in registry.requests[1].content


def test_nothing_secret_follows_a_redirect_to_another_host():
    registry = Registry()
    with registry.client(Credentials(user="ann", password="secret")) as client:
        assert client.get("https://r.example/v2/moved").content == b"blob"
        client.get("https://cdn.example/upload")
    for request in registry.requests:
        if request.url.host == "cdn.example":
            assert "Authorization" not in request.headers


def test_a_password_is_not_sent_over_plain_http():
    registry = Registry(realm="http://evil.example/token")
    with (
        registry.client(Credentials(user="ann", password="secret")) as client,
        pytest.raises(RuntimeRefused, match="not safe"),
    ):
        client.get("https://r.example/v2/bot")
    assert len(registry.requests) == 1


@pytest.mark.parametrize("answer", [{"token": 5}, {"token": "a\r\nX: y"}, {"other": "x"}])
def test_what_is_no_token_is_refused(answer):
    with Registry(**answer).client() as client, pytest.raises(RuntimeRefused, match="no token"):
        client.get("https://r.example/v2/bot")


def test_podmans_login_is_found_where_there_is_no_runtime_folder(tmp_path):
    path = tmp_path / ".config" / "containers" / "auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {"h.example": {"username": "ann", "password": "pw"}}}))
    found = find_credentials("h.example", {"HOME": str(tmp_path)})
    assert (found.user, found.password) == ("ann", "pw")
