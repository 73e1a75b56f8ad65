"""Moving blobs and manifests to and from a real registry, through a network with faults."""

import errno
import os
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ollama_ft.core.errors import (
    BadInput,
    NotFound,
    OutOfResources,
    RuntimeRefused,
    RuntimeUnavailable,
)
from ollama_ft.runtime.oci import client, upload
from ollama_ft.runtime.oci.artefact import MANIFEST, Artefact, Descriptor
from ollama_ft.runtime.oci.client import Reach, Repository, open_repository
from ollama_ft.runtime.oci.place import Place
from ollama_ft.runtime.oci.wire import Wire
from tests.docker_registry import ANN, docker_registry
from tests.fault_proxy import Fault, fault_proxy

CONTENT = os.urandom(3 << 20)
BLOB = Descriptor.of("application/octet-stream", CONTENT, "adapter.gguf")
CONFIG = Descriptor.of("application/vnd.test.config", b"{}")
ARTEFACT = Artefact(kind="application/vnd.test", config=CONFIG, layers=(BLOB,))


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("registry")) as served:
        yield served


@pytest.fixture
def proxy(registry):
    with fault_proxy(registry.address) as found:
        yield found


@pytest.fixture
def at(tmp_path):
    """Open a fresh repository, in nested folders, at an address."""
    with ExitStack() as stack:

        def open_at(address, *, path="", env=None, **reach):
            path = path or f"team/a/b/{tmp_path.name.replace('_', '-').lower()}"
            place = Place.parse(f"{address}/{path}")
            return stack.enter_context(
                open_repository(
                    place,
                    env={"HOME": str(tmp_path)} | (env or {}),
                    reach=Reach(**reach),
                    pause=lambda seconds: None,
                )
            )

        yield open_at


def pushed(repository):
    repository.send(BLOB, CONTENT)
    repository.send(CONFIG, b"{}")
    return repository.tag("v2", ARTEFACT.content(), MANIFEST)


def test_what_was_pushed_comes_back_byte_for_byte(registry, at, tmp_path):
    repository = at(registry.address)
    digest = pushed(repository)
    assert repository.manifest("v2") == repository.manifest(digest) == ARTEFACT.content()
    assert repository.fetch(BLOB, tmp_path / "part").read_bytes() == CONTENT
    assert repository.tags() == ("v2",)


def test_a_blob_that_is_there_is_not_sent_again(registry, at):
    repository = at(registry.address)
    assert repository.send(BLOB, CONTENT) is True
    assert repository.send(BLOB, CONTENT) is False


def test_a_blob_of_another_repository_is_mounted_and_not_sent(proxy, at):
    pushed(at(proxy.address, path="team/one"))
    proxy.asked.clear()
    assert at(proxy.address, path="team/two").send(BLOB, CONTENT, mount_from="team/one") is False
    assert [line.partition(" ")[0] for line in proxy.asked] == ["HEAD", "POST"]


def test_an_upload_that_failed_goes_on_behind_what_the_registry_has(proxy, at, monkeypatch):
    monkeypatch.setattr(upload, "PIECE", 1 << 20)
    proxy.faults.append(Fault("PATCH", "/uploads/", status=503, skip=1))
    assert at(proxy.address).send(BLOB, CONTENT) is True
    verbs = [line.partition(" ")[0] for line in proxy.asked]
    assert verbs == ["HEAD", "POST", "PATCH", "PATCH", "GET", "PATCH", "PATCH", "PUT"]


def test_an_upload_cut_within_a_piece_arrives_all_the_same(proxy, at, monkeypatch, registry):
    # This registry gives up an upload whose piece was cut, so it is begun again.
    monkeypatch.setattr(upload, "PIECE", 1 << 20)
    proxy.faults.append(Fault("PATCH", "/uploads/", cut_after=300_000))
    assert at(proxy.address).send(BLOB, CONTENT) is True
    assert registry.blob(BLOB.digest).read_bytes() == CONTENT


def test_a_registry_that_keeps_half_a_piece_gets_only_the_rest():
    held, cut = bytearray(), [True]

    def answer(request):
        where = {"Location": "/v2/team/x/blobs/uploads/one", "Range": f"0-{len(held) - 1}"}
        if request.method == "PATCH":
            body = request.content[: 1000 if cut else None]
            held.extend(body)
            if cut:
                cut.clear()
                raise httpx.WriteError("cut")
        status = {"HEAD": 404, "GET": 204, "PUT": 201}.get(request.method, 202)
        return httpx.Response(status, headers=where)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        wire = Wire(http, "http://127.0.0.1:1/v2/team/x", lambda seconds: None)
        Repository(wire, None).send(BLOB, CONTENT)
    assert bytes(held) == CONTENT


def test_an_upload_that_the_registry_forgot_begins_again(proxy, at):
    proxy.faults += [Fault("PATCH", "/uploads/", status=404), Fault("PUT", "/uploads/", status=404)]
    assert at(proxy.address).send(BLOB, CONTENT) is True


def test_a_cut_download_goes_on_where_it_was_cut(proxy, at, tmp_path):
    repository = at(proxy.address)
    pushed(repository)
    proxy.faults += [Fault("GET", "/blobs/", cut_after=1 << 20) for _ in range(2)]
    proxy.sent = 0
    repository.fetch(BLOB, tmp_path / "part")
    ranges = [line.partition("bytes=")[2] for line in proxy.asked if "bytes=" in line]
    assert ranges == [f"{1 << 20}-", f"{2 << 20}-"]
    assert proxy.sent == len(CONTENT), "no byte came twice"


def test_what_a_killed_pull_left_is_gone_on_with_by_the_next(proxy, at, tmp_path):
    repository = at(proxy.address)
    pushed(repository)
    (tmp_path / "part").write_bytes(CONTENT[:1_000_000])
    repository.fetch(BLOB, tmp_path / "part")
    assert proxy.asked[-1].endswith("bytes=1000000-")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_registry_is_asked_again(proxy, at, tmp_path, status):
    repository = at(proxy.address)
    proxy.faults += [
        Fault("HEAD", "/blobs/", status=status),
        Fault("POST", "/uploads/", status=status),
        Fault("PUT", "/manifests/", status=status),
        Fault("GET", "/blobs/", status=status, times=3),
    ]
    pushed(repository)
    assert repository.fetch(BLOB, tmp_path / "part").read_bytes() == CONTENT


def test_a_registry_that_fails_for_good_is_given_up(proxy, at):
    proxy.faults.append(Fault("GET", "/manifests/", status=502, times=100))
    with pytest.raises(RuntimeUnavailable, match="failed \\(502\\)"):
        at(proxy.address).manifest("v2")
    assert len(proxy.asked) == 6


def test_a_wrong_digest_is_refused_and_nothing_is_kept(proxy, at, tmp_path):
    repository = at(proxy.address)
    pushed(repository)
    proxy.faults.append(Fault("GET", "/blobs/", spoil=True))
    with pytest.raises(BadInput, match="sent content with the digest"):
        repository.fetch(BLOB, tmp_path / "part")
    assert not (tmp_path / "part").exists()
    assert repository.fetch(BLOB, tmp_path / "part").read_bytes() == CONTENT


def test_a_manifest_asked_for_by_digest_is_held_to_it(proxy, at):
    repository = at(proxy.address)
    digest = pushed(repository)
    proxy.faults.append(Fault("GET", "/manifests/", spoil=True))
    with pytest.raises(BadInput, match=f"for {digest}"):
        repository.manifest(digest)


def test_more_bytes_than_were_announced_are_refused(registry, at, tmp_path):
    repository = at(registry.address)
    pushed(repository)
    shorter = Descriptor(media_type="x", digest=BLOB.digest, size=BLOB.size - 1)
    with pytest.raises(RuntimeRefused, match="sent more than"):
        repository.fetch(shorter, tmp_path / "part")


def test_a_slow_body_arrives(proxy, at, tmp_path):
    repository = at(proxy.address)
    pushed(repository)
    proxy.faults.append(Fault("GET", "/blobs/", pause=0.01))
    assert repository.fetch(BLOB, tmp_path / "part").read_bytes() == CONTENT


def test_a_body_that_stands_still_is_cut_and_gone_on_with(proxy, at, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    repository = at(proxy.address)
    pushed(repository)
    proxy.faults.append(Fault("GET", "/blobs/", pause=0.6))
    assert repository.fetch(BLOB, tmp_path / "part").read_bytes() == CONTENT


def test_a_full_disk_keeps_what_has_come(registry, at, tmp_path, monkeypatch):
    repository = at(registry.address)
    pushed(repository)

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def write(self, piece):
            if self.file.tell() > 1 << 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(piece)

    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", *a, **k: (
            Full(real(path, mode)) if mode in ("wb", "ab") else real(path, mode, *a, **k)
        ),
    )
    with pytest.raises(OutOfResources, match="No space left"):
        repository.fetch(BLOB, tmp_path / "part")
    monkeypatch.undo()
    assert 1 << 20 < (tmp_path / "part").stat().st_size < len(CONTENT)
    assert repository.fetch(BLOB, tmp_path / "part").read_bytes() == CONTENT


def test_what_is_not_there_is_not_found(registry, at, tmp_path):
    repository = at(registry.address)
    with pytest.raises(NotFound, match="v9 is not in team/a/b/"):
        repository.manifest("v9")
    with pytest.raises(NotFound, match="lacks sha256:"):
        repository.fetch(BLOB, tmp_path / "part")
    assert repository.tags() == ()


def test_nobody_listening_is_unavailable(at):
    with pytest.raises(RuntimeUnavailable, match="cannot be reached"):
        at("127.0.0.1:9").manifest("v1")


def test_a_registry_with_a_login_lets_in_who_has_logged_in(tmp_path, at):
    with (
        docker_registry(tmp_path / "r", htpasswd=ANN) as served,
        fault_proxy(served.address) as proxy,
    ):
        with pytest.raises(RuntimeRefused, match="asks for a user and a password") as refused:
            at(proxy.address).manifest("v2")
        assert f"docker login {proxy.address}" in refused.value.mend
        with pytest.raises(RuntimeRefused, match=r"'ann' .* is not let in"):
            at(proxy.address, env={"OLLAMA_FT_REGISTRY_AUTH": "ann:wrong"}).manifest("v2")
        pushed(at(proxy.address, env={"OLLAMA_FT_REGISTRY_AUTH": "ann:secret"}))


def test_a_ca_of_ones_own_is_trusted_when_it_is_named(tmp_path, at):
    pair = certificate(tmp_path)
    with docker_registry(tmp_path / "r", tls=pair) as served:
        address = served.address
        with pytest.raises(RuntimeUnavailable, match=r"(?i)certificate"):
            at(f"https://{address}").manifest("v2")
        pushed(at(f"https://{address}", ca=pair[0]))


def test_a_file_that_is_no_ca_is_refused(tmp_path, at):
    (tmp_path / "ca.pem").write_text("no")
    with pytest.raises(BadInput, match="is no certificate of a CA"):
        at("127.0.0.1:9", ca=tmp_path / "ca.pem")


def certificate(folder):
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, private
