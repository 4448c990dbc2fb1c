"""How much of a document's text was found: judge.py DOCUMENTS TEXTS.

DOCUMENTS is a folder of files; TEXTS holds what the gateway made of each, under its name and
`.txt`. The reference is another reader's text: pdftotext, python-docx, openpyxl, python-pptx,
LibreOffice's export, Python's own mail and HTML parsers. Recall is the share of the reference's
words, each as often as it occurs there, that stand in our text. Prints one JSON object.
"""

import collections
import difflib
import email
import email.policy
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import zipfile


def words(text):
    return collections.Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def order(reference, ours):
    """The share of the reference's words that stand in the same order in ours."""
    one, other = (re.findall(r"\w+", text.casefold()) for text in (reference, ours))
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(len(one), 1)


def pdf(path):
    done = subprocess.run(["pdftotext", path, "-"], capture_output=True, timeout=60)
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def docx(path):
    import docx as reader

    def block(parent):
        for item in parent.iter_inner_content():
            if hasattr(item, "rows"):
                for row in item.rows:
                    # A merged cell is named once for each place it covers.
                    for cell in dict.fromkeys(row.cells):
                        yield from block(cell)
            else:
                yield item.text

    document = reader.Document(path)
    out = list(block(document))
    seen = set()
    for section in document.sections:
        for part in (section.header, section.footer):
            if not part.is_linked_to_previous and part.part.partname not in seen:
                seen.add(part.part.partname)
                out.extend(block(part))
    return "\n".join(out)


def xlsx(path):
    import openpyxl

    out = []
    for sheet in openpyxl.load_workbook(path, data_only=True).worksheets:
        out.append(sheet.title)
        for row in sheet.iter_rows():
            for cell in row:
                if cell.value is not None:
                    value = cell.value
                    midnight = getattr(value, "time", None) and str(value.time()) == "00:00:00"
                    out.append(str(value.date() if midnight else value))
                if cell.comment:
                    out.append(cell.comment.text)
    return "\n".join(out)


def pptx(path):
    import pptx as reader

    def shapes(group):
        for shape in group:
            if shape.shape_type == 6:
                yield from shapes(shape.shapes)
            elif shape.has_text_frame:
                yield shape.text_frame.text
            elif getattr(shape, "has_table", False) and shape.has_table:
                yield from (cell.text for row in shape.table.rows for cell in row.cells)

    out = []
    for slide in reader.Presentation(path).slides:
        out.extend(shapes(slide.shapes))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            out.append(slide.notes_slide.notes_text_frame.text)
    return "\n".join(out)


class Seen(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.out, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style", "title")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style", "title") and self.hidden > 0

    def handle_data(self, data):
        if not self.hidden:
            self.out.append(data)


def seen(text):
    parser = Seen()
    parser.feed(text)
    return "\n".join(parser.out)


def epub(path):
    with zipfile.ZipFile(path) as book:
        pages = [name for name in book.namelist() if name.endswith((".xhtml", ".html", ".htm"))]
        return "\n".join(seen(book.read(name).decode("utf-8", "replace")) for name in pages)


def eml(path):
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    out = [str(mail[name]) for name in ("from", "to", "subject") if mail[name]]
    body = mail.get_body(("plain", "html"))
    if body is not None:
        text = body.get_content()
        out.append(seen(text) if body.get_content_subtype() == "html" else text)
    for part in mail.iter_attachments():
        out.append(part.get_filename() or "")
        if part.get_content_maintype() == "text":
            out.append(part.get_content())
    return "\n".join(out)


def plain(path):
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("windows-1252", "replace")


SHEETS = 'csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1'


def office(paths, suffix, target):
    """LibreOffice's export of several files at once: their texts, by name."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless"]
        command += ["--convert-to", target, "--outdir", folder, *map(str, paths)]
        subprocess.run(command, capture_output=True, timeout=180)
        texts = {}
        for path in paths:
            # LibreOffice writes a file for each sheet, under the document's name and the sheet's.
            pattern = f"{glob(path.stem)}-*.csv" if suffix == "csv" else f"{glob(path.stem)}.{suffix}"
            found = sorted(pathlib.Path(folder).glob(pattern))
            text = pdf if suffix == "pdf" else lambda file: file.read_text("utf-8", "replace")
            texts[path.name] = "\n".join(text(file) or "" for file in found)
        return texts


def glob(name):
    return re.sub(r"([\[\]*?])", r"[\1]", name)


OURS = {".pdf": pdf, ".docx": docx, ".xlsx": xlsx, ".pptx": pptx, ".epub": epub, ".eml": eml,
        ".csv": plain, ".txt": plain}
OFFICE = {".odt": ("txt", "txt:Text (encoded):UTF8"), ".rtf": ("txt", "txt:Text (encoded):UTF8"),
          ".html": ("txt", "txt:Text (encoded):UTF8"), ".ods": ("csv", SHEETS), ".odp": ("pdf", "pdf")}


def main(documents, texts):
    paths = [path for path in sorted(pathlib.Path(documents).iterdir())
             if (pathlib.Path(texts) / f"{path.name}.txt").exists()]
    references, left_out = {}, []
    for path in paths:
        if path.suffix in OURS:
            try:
                references[path.name] = OURS[path.suffix](path)
            except ImportError:
                raise
            except Exception as error:
                left_out.append(f"{path.name}: the reference reader failed: {type(error).__name__}")
    if shutil.which("soffice"):
        for kind, (suffix, target) in OFFICE.items():
            same = [path for path in paths if path.suffix == kind]
            if same:
                references.update(office(same, suffix, target))
        for path in paths:
            text = references.get(path.name, "")
            if path.suffix == ".html" and text.count("?") > len(text) / 4:
                # LibreOffice did not find the page's encoding.
                references[path.name] = seen(plain(path))
    else:
        left_out.append("LibreOffice is not installed: ODF, RTF and HTML are not judged")
    files = []
    for path in paths:
        wanted = words(references.get(path.name) or "")
        if not wanted:
            continue
        ours = (pathlib.Path(texts) / f"{path.name}.txt").read_text("utf-8")
        missing = wanted - words(ours)
        recall = 1 - sum(missing.values()) / sum(wanted.values())
        file = {"name": path.name, "kind": path.suffix[1:], "recall": recall,
                "words": sum(wanted.values()), "missing": list(missing)[:20]}
        if "column" in path.name and path.suffix == ".pdf":
            file["order"] = order(references[path.name], ours)
        files.append(file)
    means = {}
    for kind in sorted({file["kind"] for file in files}):
        shares = [file["recall"] for file in files if file["kind"] == kind]
        means[kind] = {"mean": sum(shares) / len(shares), "files": len(shares)}
    files.sort(key=lambda file: file["recall"])
    print(json.dumps({"means": means, "files": files, "left_out": left_out}))


main(*sys.argv[1:3])
