import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ft.kinds.personal import KINDS, Memory, find, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq0\nc2VjcmV0\n-----END RSA PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    ("kind", "text", "written"),
    [
        ("email", "Write to Jo.Doe+shop@Example.co.uk.", "Jo.Doe+shop@Example.co.uk"),
        ("email", "请写信到zhang@example.com，谢谢", "zhang@example.com"),
        ("email", "邮箱ｚhang＠example.com", "ｚhang＠example.com"),
        ("phone", "Ring +44 20 7946 0958 today", "+44 20 7946 0958"),
        ("phone", "Ring +1-415-555-2671.", "+1-415-555-2671"),
        ("phone", "or (415) 555-2671", "(415) 555-2671"),
        ("phone", "Büro: 030 901820-15", "030 901820-15"),
        ("phone", "我的手机是13812345678。", "13812345678"),
        ("phone", "手机１３８１２３４５６７８", "１３８１２３４５６７８"),
        ("phone", "138-1234-5678", "138-1234-5678"),
        ("phone", "店里的座机0571-87654321转2", "0571-87654321"),
        ("phone", "my phone is 4155552671", "4155552671"),
        ("iban", "pay DE89 3704 0044 0532 0130 00 now", "DE89 3704 0044 0532 0130 00"),
        ("iban", "gb29nwbk60161331926819", "gb29nwbk60161331926819"),
        ("card", "card 4111 1111 1111 1111, 12/27", "4111 1111 1111 1111"),
        ("card", "Amex 3782 822463 10005", "3782 822463 10005"),
        ("card", "卡号5500005555555559", "5500005555555559"),
        ("chinese-id", "身份证号11010519491231002x。", "11010519491231002x"),
        ("ip", "came from 203.0.113.77.", "203.0.113.77"),
        ("ip", "host 192.168.3.17:8080", "192.168.3.17"),
        ("ip", "at 2001:db8:85a3::8a2e:370:7334 today", "2001:db8:85a3::8a2e:370:7334"),
        ("key", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("key", "export K=sk-proj-" + "a1B2" * 8, "sk-proj-" + "a1B2" * 8),
        ("key", "ghp_" + "a1B2" * 9 + " is it", "ghp_" + "a1B2" * 9),
        ("key", "hf_" + "a1B2" * 9, "hf_" + "a1B2" * 9),
        ("key", 'password = "hunter2!"', "hunter2!"),
        ("key", "我的密码是abc12345", "abc12345"),
        ("jwt", f"Authorization: Bearer {JWT}", JWT),
        ("pem", f"my key:\n{PEM}\nthanks", PEM),
        ("pem", PEM.replace("\n", "\\n"), PEM.replace("\n", "\\n")),
        ("pem", PEM[:61], PEM[:61]),
    ],
)
def test_it_is_found_where_it_stands(kind, text, written):
    assert [(s.kind, text[s.start : s.end]) for s in find(text)] == [(kind, written)]


@pytest.mark.parametrize(
    "text",
    [
        "The Wren weighs 1234567 grams, 1 000 000 in a box, costs 12,345,678.90 €.",
        "order 1234567890 of 2024-01-15 12:30:00, or 15.01.2024, 01/02/2024-03/04/2024",
        "ISBN 978-3-16-148410-0, EAN 4006381333931",
        "firmware v1.2.3.4, version 10.20.30.40, 版本 2.0.1.17",
        "127.0.0.1, 0.0.0.0, 255.255.255.0 and the router at 192.168.1.1",
        "std::vector, a::b, at 10:20:30, dead::beef",
        "4111 1111 1111 1112 and DE89 3704 0044 0532 0130 01 have wrong checksums",
        "110105194912310021 也不对",
        "git@github.com:a/b.git, @home, a@b, foo@localhost",
        "3.14159265358979, 0.13812345678",
        "token: how long is it? password: ******** secret: yes, please",
        "sk-learn, the AKIA airport, eyJub3Q.a.token",
        "订单号 20240115123456，运单号 773012345678901",
        "[EMAIL_1] and [PHONE_12]",
        "",
    ],
)
def test_what_only_looks_like_it_is_let_be(text):
    assert find(text) == []


def test_two_numbers_in_a_row_are_two():
    text = "13812345678 13912345678, 010-62345678/13712345678,13612345678"
    assert [s.value for s in find(text)] == [
        "13812345678",
        "13912345678",
        "1062345678",
        "13712345678",
        "13612345678",
    ]


def test_one_thing_has_one_name_in_a_conversation_however_it_is_written():
    memory = Memory()
    turns = [
        "I am jo@example.com, 138-1234-5678.",
        "Thanks, JO@example.com. Or ann@example.com?",
        "+86 138 1234 5678 is mine",
    ]
    assert [redact(turn, memory) for turn in turns] == [
        "I am [EMAIL_1], [PHONE_1].",
        "Thanks, [EMAIL_1]. Or [EMAIL_2]?",
        "[PHONE_1] is mine",
    ]
    assert redact("身份证11010519491231002X", memory) == "身份证[CHINESE_ID_1]"


def test_redacting_twice_changes_nothing_and_takes_no_name_twice():
    once = redact("jo@example.com", Memory())
    assert redact(once, Memory()) == once
    assert redact(f"{once} and ann@example.com", Memory()) == "[EMAIL_1] and [EMAIL_2]"


@given(st.text(alphabet=st.sampled_from("a1@.:-+ ()中eyJ５＠/=x\n"), max_size=80))
def test_spans_are_in_order_inside_the_text_and_apart(text):
    end = 0
    for span in find(text):
        assert end <= span.start < span.end <= len(text)
        assert span.kind in KINDS
        end = span.end


def test_a_header_that_is_no_json_is_no_jwt():
    fake = base64.urlsafe_b64encode(b'{"typ": broken').decode().rstrip("=")
    assert find(f"{fake}.eyJzdWIiOiIx.c2lnbmF0dXJl") == []


@pytest.mark.parametrize(
    "evil",
    ["a", "1 ", "01 23 45 67 89 ", "-----BEGIN ", "a.", "AA11", "eyJ", "::", "1.1.1.", "a@"],
)
def test_no_text_takes_more_than_its_length_in_time(evil):
    began = time.perf_counter()
    find(evil * (99_999 // len(evil)))
    assert time.perf_counter() - began < 5  # 0.1 s alone; squared time would be minutes
