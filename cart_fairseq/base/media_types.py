"""Types of media files: by the ending of a name, and by the first bytes. Imports only the standard library."""

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
"""What browsers show or play, by the ending of a file's name."""
MORE_TYPES = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".opus": "audio/ogg",
    ".oga": "audio/ogg",
    ".ogv": "video/ogg",
    ".mov": "video/quicktime",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
}
"""Other media, which some browsers show or play."""
HEAD = 64
"""Bytes from the begin of a file that tell its type."""


def type_of_content(head: bytes) -> str | None:
    """Return the media type of a file from its first :data:`HEAD` bytes; None if they are of no medium known here.

    >>> type_of_content(b"RIFF....WAVE"), type_of_content(b"<html>")
    ('audio/wav', None)
    """
    for magic, kind in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"ID3", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
    ):
        if head.startswith(magic):
            return kind
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "image/bmp"
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(head[8:12])
    if head[:4] == b"OggS":
        return "video/ogg" if b"\x80theora" in head else "audio/ogg"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in head else "video/x-matroska"
    if head[4:8] == b"ftyp":
        brands = {b"M4A ": "audio/mp4", b"avif": "image/avif", b"avis": "image/avif", b"qt  ": "video/quicktime"}
        return brands.get(head[8:12], "video/mp4")
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:  # a frame of MPEG audio, layer III
        return "audio/mpeg"
    return None


def type_of_name(suffix: str) -> str | None:
    """Return the media type that an ending such as ``.png`` stands for; None for any other ending."""
    return (MEDIA_TYPES | MORE_TYPES).get(suffix.lower())


def suffix_of(kind: str) -> str:
    """Return the usual ending of a media type's files.

    >>> suffix_of("image/jpeg"), suffix_of("audio/wav")
    ('.jpg', '.wav')
    """
    return next(suffix for suffix, each in (MEDIA_TYPES | MORE_TYPES).items() if each == kind)
