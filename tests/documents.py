"""Documents for the tests of reading: PDFs written by hand, Word files by python-docx."""

import zipfile
from pathlib import Path


def write_pdf(path: Path, pages: list[list[str]], bookmarks: tuple[str, ...] = ()) -> Path:
    """A PDF with these lines on its pages, in Latin or Chinese; a bookmark for each first page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>", ""]
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    objects.append(
        "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H"
        " /DescendantFonts [5 0 R] >>"
    )
    objects.append(
        "<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo"
        " << /Registry (Adobe) /Ordering (GB1) /Supplement 2 >> >>"
    )
    objects += _outline(bookmarks, first=7 + len(bookmarks))
    kids = []
    for lines in pages:
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {number + 1} 0 R"
            " /Resources << /Font << /L 3 0 R /C 4 0 R >> >> >>"
        )
        objects.append(_stream(lines))
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    path.write_bytes(_file(objects))
    return path


def _outline(titles: tuple[str, ...], first: int) -> list[str]:
    if not titles:
        return ["<< /Type /Outlines /Count 0 >>"]
    items = [
        f"<< /Title ({title}) /Parent 6 0 R /Dest [{first + 2 * at} 0 R /Fit]"
        + (f" /Next {8 + at} 0 R" if at + 1 < len(titles) else "")
        + (f" /Prev {6 + at} 0 R" if at else "")
        + " >>"
        for at, title in enumerate(titles)
    ]
    last = 6 + len(titles)
    return [f"<< /Type /Outlines /First 7 0 R /Last {last} 0 R /Count {len(titles)} >>", *items]


def _stream(lines: list[str]) -> str:
    parts = ["BT 20 TL 50 750 Td"]
    for line in lines:
        if line.isascii():
            parts.append(f"/L 12 Tf ({line}) Tj T*")
        else:
            parts.append(f"/C 12 Tf <{line.encode('utf-16-be').hex()}> Tj T*")
    content = "\n".join([*parts, "ET"])
    return f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"


def _file(objects: list[str]) -> bytes:
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    count = len(objects) + 1
    tail = f"xref\n0 {count}\n0000000000 65535 f \n{table}trailer << /Size {count} /Root 1 0 R >>\n"
    return out + tail.encode() + f"startxref\n{len(out)}\n%%EOF".encode()


def write_docx(path: Path) -> Path:
    """A Word document with headings, paragraphs and a table."""
    from docx import Document

    document = Document()
    document.add_heading("Shipping", level=1)
    document.add_paragraph("We ship every day.")
    document.add_heading("Abroad", level=2)
    document.add_paragraph("海外运费三十元。", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for row, texts in enumerate((("Country", "Price"), ("France", "€12"))):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    document.save(str(path))
    return path


def write_docx_of(path: Path, body: str) -> Path:
    """A Word document with these elements in its body."""
    write_docx(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    names = "http://schemas.openxmlformats.org"
    parts["word/document.xml"] = (
        f'<w:document xmlns:w="{names}/wordprocessingml/2006/main"'
        f' xmlns:mc="{names}/markup-compatibility/2006"><w:body>{body}</w:body></w:document>'
    ).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def write_bomb(path: Path, megabytes: int = 300) -> Path:
    """A Word document whose text unpacks to so much."""
    write_docx(path)
    packing = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 1}
    with (
        zipfile.ZipFile(path, "a", **packing) as archive,
        archive.open("word/bomb.xml", "w", force_zip64=True) as file,
    ):
        for _ in range(megabytes):
            file.write(b" " * (1 << 20))
    return path
