"""Readers: what each kind of document becomes, and what a hostile one costs."""

import os

import pytest

from ollama_ft.core.errors import BadInput, Unsupported
from ollama_ft.kinds.readers import kind_of, kinds_by_suffix
from ollama_ft.kinds.readers.apart import ReadingRoom
from ollama_ft.kinds.readers.block import Block, decoded
from tests.documents import write_bomb, write_docx, write_docx_of, write_pdf


@pytest.fixture(scope="module")
def room():
    with ReadingRoom(seconds=30) as room:
        yield room


def texts(blocks):
    return [(f"h{b.level}" if b.level else b.kind, b.text) for b in blocks]


def test_markdown_keeps_its_structure(room, tmp_path):
    path = tmp_path / "a.md"
    path.write_text(
        '---\ntitle: "Guide"\n---\n# Hours\n\nWe open *at* [nine](http://x).\nEvery day.\n\n'
        "- one\n- `two`\n\n---\n\n## 保修\n\n| 部件 | 年 |\n|---|---|\n| 壶 | 2 |\n\n```\ncode  here\n```\n"
        "<div><p>raw</p></div>\n"
    )
    assert texts(room.read(path)) == [
        ("h1", "Guide"),
        ("h1", "Hours"),
        ("text", "We open at nine. Every day."),
        ("text", "one"),
        ("text", "two"),
        ("break", ""),
        ("h2", "保修"),
        ("text", "部件 | 年"),
        ("text", "壶 | 2"),
        ("text", "code  here"),
        ("text", "raw"),
    ]


def test_html_gives_what_people_read(room, tmp_path):
    path = tmp_path / "a.html"
    path.write_text(
        "<html><head><title>Shop</title><style>p{}</style></head><body><nav>Menu</nav>"
        "<h1>Open<b>ing</b></h1><p>At <i>nine</i><br>sharp.</p>loose<ul><li>one<li>two</ul><hr>"
        "<table><tr><th>壶</th><td><p>两年</p></td></tr></table><script>alert(1)</script></body>"
    )
    assert texts(room.read(path)) == [
        ("h1", "Shop"),
        ("h1", "Opening"),
        ("text", "At nine sharp."),
        ("text", "loose"),
        ("text", "one"),
        ("text", "two"),
        ("break", ""),
        ("text", "壶 | 两年"),
    ]


def test_html_is_read_in_the_encoding_that_it_names(room, tmp_path):
    path = tmp_path / "a.htm"
    path.write_bytes('<meta charset="gbk"><p>开门时间</p>'.encode("gbk"))
    assert texts(room.read(path)) == [("text", "开门时间")]


def test_a_pdf_gives_paragraphs_with_pages_and_bookmarks(room, tmp_path):
    lines = ["The first paragraph goes on for a long", "while, and it ends here.", "A new one."]
    pages = [lines, ["水壶保修两年，", "从购买之日算起。"]]
    path = write_pdf(tmp_path / "a.pdf", pages, ("Warranty",))
    found = room.read(path)
    assert [(b.kind, b.text, b.page) for b in found] == [
        ("heading", "Warranty", 1),
        ("text", "The first paragraph goes on for a long while, and it ends here.", 1),
        ("text", "A new one.", 1),
        ("text", "水壶保修两年，从购买之日算起。", 2),
    ]


def test_a_word_document_gives_headings_by_their_style_and_rows(room, tmp_path):
    assert texts(room.read(write_docx(tmp_path / "a.docx"))) == [
        ("h1", "Shipping"),
        ("text", "We ship every day."),
        ("h2", "Abroad"),
        ("text", "海外运费三十元。"),
        ("text", "Country | Price"),
        ("text", "France | €12"),
    ]


def test_a_line_that_was_full_does_not_part_a_chinese_word(room, tmp_path):
    markdown, page = tmp_path / "a.md", tmp_path / "a.html"
    markdown.write_text("水壶的保\n修是两年，\n九点 open\nearly.\n")
    page.write_text("<p>水壶的保\n  修是两年。</p><pre>床前明月光\n疑是地上霜</pre>")
    assert texts(room.read(markdown)) == [("text", "水壶的保修是两年，九点 open early.")]
    assert texts(room.read(page)) == [
        ("text", "水壶的保修是两年。"),
        ("text", "床前明月光\n疑是地上霜"),
    ]


def test_a_line_end_that_is_written_as_a_tag_parts_words_in_markdown(room, tmp_path):
    path = tmp_path / "a.md"
    path.write_text("one<br>two <b>three</b>\n\n| a<br/>b | 壶<br>杯 |\n|---|---|\n")
    assert texts(room.read(path)) == [("text", "one\ntwo three"), ("text", "a b | 壶 杯")]


def test_a_page_that_stands_in_a_form_is_read_without_its_fields(room, tmp_path):
    path = tmp_path / "a.html"
    path.write_text(
        "<form><p>We open at nine.</p><textarea>typed</textarea><select><option>DE</select></form>"
    )
    assert texts(room.read(path)) == [("text", "We open at nine.")]


@pytest.mark.parametrize(
    ("before", "named"),
    [("\ufeff", "utf-8"), ("", "utf-16"), ("", "utf-7"), ("", "undefined"), ("", "no-such")],
)
def test_an_encoding_that_a_page_cannot_have_is_not_believed(room, tmp_path, before, named):
    path = tmp_path / "a.html"
    page = f'<html><head><meta charset="{named}"><title>T</title></head><body><p>开门 +AGE-</body>'
    path.write_text(before + page)
    assert texts(room.read(path)) == [("h1", "T"), ("text", "开门 +AGE-")]


def test_nothing_that_a_word_document_shows_is_lost(room, tmp_path):
    path = write_docx_of(
        tmp_path / "a.docx",
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:ins><w:r><w:t>put in</w:t></w:r></w:ins><w:del><w:r><w:delText>taken out"
        "</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        "<w:r><w:br/><w:t>第二行</w:t></w:r></w:p>"
        "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>in a box</w:t>"
        "</w:r></w:p></w:txbxContent></mc:Choice><mc:Fallback><w:txbxContent><w:p><w:r>"
        "<w:t>in a box</w:t></w:r></w:p></w:txbxContent></mc:Fallback></mc:AlternateContent>"
        "</w:r></w:p>"
        "<w:tbl><w:tblGrid><w:gridCol/></w:tblGrid><w:tr><w:tc><w:p><w:r><w:t>out</w:t></w:r></w:p>"
        "<w:tbl><w:tblGrid><w:gridCol/></w:tblGrid><w:tr><w:tc><w:p><w:r><w:t>inner</w:t></w:r>"
        "</w:p></w:tc></w:tr></w:tbl><w:p/></w:tc></w:tr></w:tbl>",
    )
    assert [text for _, text in texts(room.read(path))] == [
        "in a control",
        "put in\n第二行",
        "in a box",
        "out inner",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_text_is_read_in_the_encodings_that_chinese_files_have(room, tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("第一段。\r\n还是第一段。\r\n\r\n第二段。".encode(encoding))
    assert texts(room.read(path)) == [("text", "第一段。\n还是第一段。"), ("text", "第二段。")]


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(BadInput, match="no text"):
        decoded(b"\x00\x01\x02\xff")


def test_a_kind_that_nobody_reads_is_refused_with_the_list(tmp_path):
    with pytest.raises(Unsupported, match=r"\.docx .*\.md .*\.pdf"):
        kind_of(tmp_path / "a.exe")
    assert kinds_by_suffix()[".pdf"] == "pdf"


# Hostile files


def test_a_word_document_that_unpacks_to_too_much_is_refused_unread(room, tmp_path):
    with pytest.raises(BadInput, match=r"bomb\.docx: It unpacks to 3\d\d MB"):
        room.read(write_bomb(tmp_path / "bomb.docx"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.docx", b"PK\x03\x04 and no more", "no Word document"),
        ("a.pdf", b"%PDF-1.4 and no more", "damaged PDF"),
        ("a.md", b"\xff\x00\xfe", "no text"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(room, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"{name}: .*{said}"):
        room.read(path)


def test_a_pdf_of_pictures_alone_is_refused_with_the_remedy(room, tmp_path):
    with pytest.raises(BadInput, match="only pictures") as raised:
        room.read(write_pdf(tmp_path / "scan.pdf", [[], []]))
    assert "OCR" in raised.value.mend


def test_html_that_is_nested_without_end_is_read(tmp_path):
    path = tmp_path / "deep.html"
    path.write_text("<b>x" * 100_000)
    with ReadingRoom(seconds=30) as room:
        (block,) = room.read(path)
    assert block.text == "x" * 100_000


def test_html_as_deep_as_people_write_it_is_read(room, tmp_path):
    path = tmp_path / "deep.html"
    path.write_text("<div>y" * 500)
    assert len(room.read(path)) == 500


def test_deep_markdown_is_read_without_an_overflow(room, tmp_path):
    path = tmp_path / "deep.md"
    path.write_text("> " * 20_000 + "x\n\n" + "*" * 20_000 + "y\n\nThe end.")
    assert "The end." in room.read(path)[-1].text


def test_after_a_document_that_is_given_up_the_next_one_is_read(tmp_path):
    good, slow = tmp_path / "good.txt", tmp_path / "slow.txt"
    good.write_text("fine")
    os.mkfifo(slow)  # nobody writes into it: reading would wait for ever
    with ReadingRoom(seconds=5) as room:
        with pytest.raises(BadInput, match=r"slow\.txt: it took more than 5 seconds"):
            room.read(slow)
        assert room.read(good) == [Block(kind="text", text="fine")]


def test_a_document_with_too_much_in_it_is_refused(room, tmp_path):
    path = tmp_path / "big.txt"
    path.write_bytes(b"x\n\n" * 600_000)
    with pytest.raises(BadInput, match=r"more than .* 500,000 paragraphs"):
        room.read(path)
