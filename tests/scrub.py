#!/usr/bin/env python3
"""Judges `scrub` by other people's tools.

    scrub.py make DIR            images and a PDF with a known author, place and device in them
    scrub.py judge BEFORE AFTER  every file of AFTER against the file of the same name in BEFORE

exiftool must find nothing in a scrubbed image or PDF but what ALLOWED lists; Pillow must decode
the same pixels from both; poppler must read the same words, and qpdf find no fault; an Office
package must hold none of the parts, names and marks in FORBIDDEN. The last line is `judged N`.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

AUTHOR = "Jane Q. Planted"
SERIAL = "SN-4711-PLANTED"

# What exiftool may find in a scrubbed file, by its groups. Everything else is a fault.
ALLOWED = {
    "SourceFile": {"SourceFile"},
    "ExifTool": {"ExifToolVersion", "Warning"},
    "System": {"FileName", "Directory", "FileSize", "FileModifyDate", "FileAccessDate",
               "FileInodeChangeDate", "FilePermissions"},
    "File": {"FileType", "FileTypeExtension", "MIMEType", "ExifByteOrder", "ImageWidth",
             "ImageHeight", "EncodingProcess", "BitsPerSample", "ColorComponents",
             "YCbCrSubSampling"},
    "JFIF": {"JFIFVersion", "ResolutionUnit", "XResolution", "YResolution"},
    "Adobe": {"DCTEncodeVersion", "APP14Flags0", "APP14Flags1", "ColorTransform"},
    # Of a JPEG, PNG or WebP the first alone; of a TIFF what shapes its pixels.
    "IFD0": {"Orientation", "SubfileType", "OldSubfileType", "ImageWidth", "ImageHeight",
             "BitsPerSample", "Compression", "PhotometricInterpretation", "FillOrder",
             "StripOffsets", "SamplesPerPixel", "RowsPerStrip", "StripByteCounts", "XResolution",
             "YResolution", "PlanarConfiguration", "T4Options", "T6Options", "ResolutionUnit",
             "PageNumber", "Predictor", "WhitePoint", "PrimaryChromaticities", "ColorMap",
             "TileWidth", "TileLength", "TileOffsets", "TileByteCounts", "ExtraSamples",
             "SampleFormat", "Thresholding", "MinSampleValue", "MaxSampleValue",
             "YCbCrSubSampling", "YCbCrPositioning", "ReferenceBlackWhite", "YCbCrCoefficients",
             # Strips of a TIFF that are JPEG: exiftool takes the first one for a preview.
             "JPEGTables", "PreviewImage", "PreviewImageStart", "PreviewImageLength"},
    "PNG": {"ImageWidth", "ImageHeight", "BitDepth", "ColorType", "Compression", "Filter",
            "Interlace", "Palette", "Transparency", "Gamma", "SRGBRendering", "BackgroundColor",
            "SignificantBits", "ProfileName", "WhitePointX", "WhitePointY", "RedX", "RedY",
            "GreenX", "GreenY", "BlueX", "BlueY", "AnimationFrames", "AnimationPlays",
            "PaletteHistogram"},
    "PNG-pHYs": {"PixelsPerUnitX", "PixelsPerUnitY", "PixelUnits"},
    "GIF": {"GIFVersion", "ImageWidth", "ImageHeight", "HasColorMap", "ColorResolutionDepth",
            "BitsPerPixel", "BackgroundColor", "AnimationIterations", "FrameCount", "Duration",
            "TransparentColor", "PixelAspectRatio"},
    "RIFF": {"ImageWidth", "ImageHeight", "VP8Version", "HorizontalScale", "VerticalScale",
             "WebP_Flags", "AlphaPreprocessing", "AlphaFiltering", "AlphaCompression",
             "AnimationLoopCount", "BackgroundColor", "FrameCount", "Duration", "AlphaIsUsed"},
    "PDF": {"PDFVersion", "Linearized", "PageCount", "Language", "TaggedPDF", "PageLayout",
            "PageMode", "HasXFA", "EmbeddedImage", "EmbeddedImageFilter", "EmbeddedImageWidth",
            "EmbeddedImageHeight", "EmbeddedImageColorSpace"},
    "Jpeg2000": {"MajorBrand", "MinorVersion", "CompatibleBrands", "ImageHeight", "ImageWidth",
                 "NumberOfComponents", "BitsPerComponent", "Compression", "ColorSpecMethod",
                 "ColorSpecPrecedence", "ColorSpecApproximation", "ColorSpace"},
    "ICC-header": {"ProfileCMMType", "ProfileVersion", "ProfileClass", "ColorSpaceData",
                   "ProfileConnectionSpace", "ProfileDateTime", "ProfileFileSignature",
                   "PrimaryPlatform", "CMMFlags", "DeviceManufacturer", "DeviceModel",
                   "DeviceAttributes", "RenderingIntent", "ConnectionSpaceIlluminant",
                   "ProfileCreator", "ProfileID"},
    "ICC_Profile": {"ProfileCopyright", "ProfileDescription", "MediaWhitePoint",
                    "MediaBlackPoint", "RedMatrixColumn", "GreenMatrixColumn",
                    "BlueMatrixColumn", "RedTRC", "GreenTRC", "BlueTRC", "GrayTRC", "Luminance",
                    "ChromaticAdaptation", "AToB0", "AToB1", "AToB2", "BToA0", "BToA1", "BToA2",
                    "Gamut"},
    # Computed from the others.
    "Composite": {"ImageSize", "Megapixels"},
}
ALLOWED.update({f"IFD{n}": ALLOWED["IFD0"] for n in range(1, 10)})

# Fields of a colour profile that stay, with the one value they may have.
EMPTY = {
    "ICC-header:ProfileDateTime": "0000:00:00 00:00:00",
    "ICC-header:DeviceManufacturer": "",
    "ICC-header:DeviceModel": "",
    "ICC-header:ProfileCreator": "",
    "ICC-header:ProfileCMMType": "",
    "ICC-header:ProfileID": 0,
    "ICC_Profile:ProfileDescription": "Colour profile",
    "ICC_Profile:ProfileCopyright": "none",
    "PNG:ProfileName": "icc",
}

# Names of members, and patterns in members, that a scrubbed package has none of.
FORBIDDEN_PARTS = re.compile(
    r"^docProps/|^customXml/|^_xmlsignatures/|^\[trash\]/|printerSettings|comments?\d*\.xml$"
    r"|commentAuthors|/persons?/|threadedComments|people\.xml$|revisionInfo|changesInfo"
    r"|^meta\.xml$|^Thumbnails/|^manifest\.rdf$|signatures", re.IGNORECASE)
FORBIDDEN_MARKS = re.compile(
    rb"\srsid\w*=|:rsid\w*=|-rsid=|<w:rsids?\b|w:date=|w:initials=|attachedTemplate"
    rb"|w:author=\"(?!Author\")|commentReference|commentRange|absPath|revisionPtr|w14:paraId"
    rb"|office:annotation|<dc:creator|<dc:date|PrinterName|PrinterSetup|<!--|userName=")

IMAGES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff"}
OFFICE = {".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp"}

faults = []


def run(*command):
    return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)


def fields(path):
    said = run("exiftool", "-j", "-a", "-u", "-G1", "-ee", "-api", "largefilesupport=1", str(path))
    return json.loads(said.stdout)[0]


def plant(path):
    """Writes an author, a place, a device and more into an image, as cameras and editors do."""
    said = run(
        "exiftool", "-q", "-overwrite_original", "-m",
        f"-EXIF:Artist={AUTHOR}", f"-EXIF:Copyright={AUTHOR}", "-EXIF:Make=Planted Cameras",
        "-EXIF:Model=P1", f"-EXIF:SerialNumber={SERIAL}", "-EXIF:Software=Planter 1.0",
        "-EXIF:DateTimeOriginal=2020:02:03 04:05:06", "-EXIF:GPSLatitude=47.376887",
        "-EXIF:GPSLatitudeRef=N", "-EXIF:GPSLongitude=8.541694", "-EXIF:GPSLongitudeRef=E",
        "-EXIF:UserComment=planted comment", f"-XMP-dc:Creator={AUTHOR}",
        "-XMP-photoshop:City=Planted City", f"-IPTC:By-line={AUTHOR}", f"-Comment={AUTHOR}",
        "-EXIF:Orientation#=6", str(path))
    assert said.returncode == 0, said.stderr


def make(folder):
    from PIL import Image, ImageCms, ImageDraw
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (96, 64), "white")
    draw = ImageDraw.Draw(image)
    for n in range(0, 96, 5):
        draw.line((n, 0, 95 - n, 63), fill=(n * 2, 255 - n, n))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(folder / "planted.jpg", quality=90, icc_profile=profile, dpi=(72, 72))
    image.save(folder / "planted-progressive.jpg", progressive=True)
    image.convert("L").save(folder / "planted-grey.jpg")
    image.convert("CMYK").save(folder / "planted-cmyk.jpg")
    image.save(folder / "planted.png", icc_profile=profile)
    image.quantize(16).save(folder / "planted-palette.png", transparency=3)
    image.save(folder / "planted.webp", icc_profile=profile, quality=80)
    image.convert("RGBA").save(folder / "planted-lossless.webp", lossless=True)
    frames = [image.rotate(n * 30) for n in range(4)]
    image.save(folder / "planted-moving.webp", save_all=True, append_images=frames)
    image.save(folder / "planted.gif", save_all=True, append_images=frames, loop=0,
               comment=AUTHOR.encode())
    image.save(folder / "planted.tif", icc_profile=profile)
    image.save(folder / "planted-lzw.tif", compression="tiff_lzw", save_all=True,
               append_images=frames)
    image.save(folder / "planted-jpeg.tif", compression="jpeg")
    for path in sorted(folder.iterdir()):
        if path.suffix == ".gif":
            run("exiftool", "-q", "-overwrite_original", f"-XMP-dc:Creator={AUTHOR}", str(path))
        else:
            plant(path)
    # A preview, and what hangs on behind the end.
    small = folder / "small.jpg"
    image.resize((24, 16)).save(small)
    run("exiftool", "-q", "-overwrite_original", f"-ThumbnailImage<={small}",
        str(folder / "planted.jpg"))
    small.unlink()
    for name in ["planted.jpg", "planted.png", "planted.gif", "planted.webp"]:
        with open(folder / name, "ab") as file:
            file.write(b"trailing " + AUTHOR.encode())
    image.save(folder / "planted.pdf", author=AUTHOR, creator="Planter 1.0", title="A title")
    run("exiftool", "-q", "-overwrite_original", f"-XMP-dc:Creator={AUTHOR}",
        f"-PDF:Author={AUTHOR} again", str(folder / "planted.pdf"))


def check(fault, name, what):
    if fault:
        faults.append(f"{name}: {what}")


def judge_fields(name, before, after):
    for key, value in after.items():
        group, _, tag = key.rpartition(":")
        group, tag = (group or "SourceFile"), tag
        check(tag not in ALLOWED.get(group, ()), name, f"{key} = {value!r}")
        if key in EMPTY:
            check(value != EMPTY[key], name, f"{key} = {value!r}")
        if group == "IFD0" and not name.lower().endswith(("tif", "tiff")):
            check(tag != "Orientation", name, key)
    turned = before.get("IFD0:Orientation")
    if turned and not turned.startswith(("Horizontal", "Unknown")):
        check(after.get("IFD0:Orientation") != turned, name, "the orientation is another one")
    had = "ICC-header:ProfileVersion" in before
    check(had and "ICC-header:ProfileVersion" not in after and not name.endswith("pdf"), name,
          "the colour profile is gone")


def pixels(path):
    from PIL import Image, ImageFile, ImageSequence
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    with Image.open(path) as image:
        shown = lambda frame: (frame.mode, frame.size, frame.info.get("duration"), frame.tobytes())
        return [shown(frame) for frame in ImageSequence.Iterator(image)]


def judge_image(before, after):
    try:
        expected = pixels(before)
    except Exception:  # Pillow cannot read it either way.
        return
    check(pixels(after) != expected, after.name, "the pixels are not the same")


def judge_pdf(before, after):
    said = run("pdfinfo", str(after))
    check(said.returncode != 0, after.name, f"pdfinfo: {said.stderr!r}")
    words = [run("pdftotext", "-layout", str(path), "-").stdout for path in (before, after)]
    check(words[0] != words[1], after.name, "the words are not the same")
    if shutil.which("qpdf"):
        sound = run("qpdf", "--check", str(before)).returncode == 0
        said = run("qpdf", "--check", str(after))
        check(sound and said.returncode != 0, after.name, f"qpdf: {said.stdout[-200:]!r}")
        plain = run("qpdf", "--qdf", "--object-streams=disable", str(after), "-").stdout
        for key in ("PDF:Author", "PDF:Producer", "XMP-dc:Creator"):
            value = fields(before).get(key)
            if isinstance(value, str) and len(value) > 5:
                check(value.encode() in plain, after.name, f"{value!r} still stands in it")


def judge_office(before, after):
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after) as new:
        check(new.testzip(), after.name, "a member is broken")
        authors = set()
        for part in ("docProps/core.xml", "meta.xml"):
            if part in old.namelist():
                found = re.findall(rb"<(?:dc:creator|cp:lastModifiedBy|meta:initial-creator)[^>]*>"
                                   rb"([^<]{6,})<", old.read(part))
                authors.update(found)
        for member in new.infolist():
            check(FORBIDDEN_PARTS.search(member.filename), after.name, member.filename)
            check(member.date_time != (1980, 1, 1, 0, 0, 0), after.name, "a member has a time")
            check(member.extra or member.comment, after.name, "a member has more fields")
            content = new.read(member)
            if re.search(r"\.(xml|rels|vml|svg)$", member.filename):
                mark = FORBIDDEN_MARKS.search(content)
                check(mark, after.name, f"{member.filename}: {mark and mark.group()!r}")
            # In words that are read the name is the document's own.
            tags = b"".join(re.findall(rb"<[^>]*>", content))
            for author in authors:
                check(author in tags, after.name, f"{member.filename} names an author")
    said = run("unzip", "-tqq", str(after))
    check(said.returncode != 0, after.name, f"unzip: {said.stdout!r}")


def opened(paths, scratch, out):
    """The names of those that LibreOffice makes a PDF of."""
    run("timeout", "-k", "5", "120", "soffice", f"-env:UserInstallation=file://{scratch}/profile",
        "--headless", "--norestore", "--convert-to", "pdf", "--outdir", str(out),
        *map(str, paths))
    return {path.name for path in paths if (out / f"{path.stem}.pdf").exists()}


def judge_opening(before_folder, paths, scratch):
    """LibreOffice opens what it opened before; it may lack the part for a kind of document."""
    if not shutil.which("soffice") or not paths:
        print("SKIPPED: LibreOffice is not installed, or there is nothing to open")
        return
    after = opened(paths, scratch, scratch / "new")
    missing = [path for path in paths if path.name not in after]
    if not missing:
        return
    before = opened([before_folder / path.name for path in missing], scratch, scratch / "old")
    for path in missing:
        check(path.name in before, path.name, "LibreOffice does not open it any more")
    if len(before) < len(missing):
        print(f"SKIPPED: {len(missing) - len(before)} documents that LibreOffice never opened")


def judge(before_folder, after_folder):
    count, documents, planted = 0, [], 0
    for after in sorted(path for path in after_folder.iterdir() if path.is_file()):
        before = before_folder / after.name
        suffix = after.suffix.lower()
        count += 1
        if suffix in IMAGES or suffix == ".pdf":
            old, new = fields(before), fields(after)
            planted += AUTHOR in json.dumps(old)
            judge_fields(after.name, old, new)
            raw = after.read_bytes()
            check(AUTHOR.encode() in raw or SERIAL.encode() in raw, after.name, "a plant is left")
        if suffix in IMAGES:
            judge_image(before, after)
        elif suffix == ".pdf":
            judge_pdf(before, after)
        elif suffix in OFFICE:
            judge_office(before, after)
            documents.append(after)
    judge_opening(before_folder, documents, after_folder / "scratch")
    for fault in faults:
        print(fault)
    print(f"planted {planted}")
    if not faults:
        print(f"judged {count}")
    return 1 if faults else 0


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        sys.exit(judge(Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()))
