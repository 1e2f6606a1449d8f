"""Requests with two readings, and unusual ones with one: what smuggling is made of. Bytes only.

Each probe carries a second request, which one of two readers might see.
"""

HOST = b"Host: 127.0.0.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LINE, SECOND = b"POST /v1/probe/NAME HTTP/1.1\r\n", b"GET /v1/smuggled/NAME HTTP/1.1\r\n" + HOST + b"\r\n"
HEAD = LINE + HOST
HIDDEN = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SECOND), SECOND)

PROBES = {
    # two lengths
    "length and chunked": HEAD + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SECOND,
    "chunked and length": HEAD + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + SECOND,
    "two different lengths": HEAD + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
    "the same length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SECOND,
    "a list of lengths": HEAD + b"Content-Length: 2, 2\r\n\r\n{}" + SECOND,
    # a length that is none
    "signed length": HEAD + b"Content-Length: +0\r\n\r\n" + SECOND,
    "length with an underscore": HEAD + b"Content-Length: 1_0\r\n\r\n" + SECOND,
    "hexadecimal length": HEAD + b"Content-Length: 0x0\r\n\r\n" + SECOND,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + SECOND,
    "length of thirty zeros": HEAD + b"Content-Length: " + b"0" * 30 + b"\r\n\r\n" + SECOND,
    "empty length": HEAD + b"Content-Length: \r\n\r\n" + SECOND,
    # a coding that is none, or hidden
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN,
    "chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + HIDDEN,
    "identity": HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" + SECOND,
    "chunked twice": HEAD + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + SECOND,
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "coding behind a tab": HEAD + b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND,
    "chunked on HTTP/1.0": LINE.replace(b"1.1", b"1.0") + HOST + CHUNKED + b"\r\n0\r\n\r\n" + SECOND,
    # lines that end or begin in an odd way
    "space before the colon": HEAD + b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND,
    "folded line": HEAD + b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND,
    "bare line feeds": (HEAD + b"Content-Length: 0\r\n\r\n").replace(b"\r\n", b"\n") + SECOND,
    "bare line feed at the end": HEAD + b"Content-Length: 0\r\n\n" + SECOND,
    "bare carriage return": HEAD + b"X: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND,
    "nul in a value": HEAD + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n" + SECOND,
    "space in a name": HEAD + b"Content Length: 5\r\nContent-Length: 0\r\n\r\n" + SECOND,
    "line without a colon": HEAD + b"Content-Length\r\nContent-Length: 0\r\n\r\n" + SECOND,
    "first line indented": LINE + b" " + HOST + b"Content-Length: 0\r\n\r\n" + SECOND,
    # chunks
    "hexadecimal prefix of a chunk": HEAD + CHUNKED + b"\r\n0x2\r\n{}\r\n0\r\n\r\n" + SECOND,
    "chunk without its end": HEAD + CHUNKED + b"\r\n2\r\n{}0\r\n\r\n" + SECOND,
    "chunk longer than said": HEAD + CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n" + SECOND,
    "chunks ended by line feeds": HEAD + CHUNKED + b"\r\n2\n{}\n0\n\n" + SECOND,
    "chunk size beyond 64 bits": HEAD + CHUNKED + b"\r\n1" + b"0" * 16 + b"\r\n{}\r\n0\r\n\r\n" + SECOND,
    "negative chunk size": HEAD + CHUNKED + b"\r\n-1\r\n{}\r\n0\r\n\r\n" + SECOND,
    "space before the chunk size": HEAD + CHUNKED + b"\r\n 2\r\n{}\r\n0\r\n\r\n" + SECOND,
    "line feed in an extension": HEAD + CHUNKED + b"\r\n2;a\nb\r\n{}\r\n0\r\n\r\n" + SECOND,
    "length in a trailer": HEAD + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n" + SECOND,
    # hosts
    "no host": LINE + b"Content-Length: 0\r\n\r\n" + SECOND,
    "two hosts": HEAD + b"Host: evil.example\r\nContent-Length: 0\r\n\r\n" + SECOND,
    "the same host twice": HEAD + HOST + b"Content-Length: 0\r\n\r\n" + SECOND,
    "host with a path": LINE + b"Host: 127.0.0.1/?x\r\nContent-Length: 0\r\n\r\n" + SECOND,
    "target of another host": LINE.replace(b"/v1", b"http://evil.example/v1") + HOST + b"Content-Length: 0\r\n\r\n" + SECOND,
    # versions
    "version 0.9": LINE.replace(b"1.1", b"0.9") + HOST + b"Content-Length: 0\r\n\r\n" + SECOND,
    "version 2.0": LINE.replace(b"1.1", b"2.0") + HOST + b"Content-Length: 0\r\n\r\n" + SECOND,
}  # fmt: skip

FINE = {
    "a length and a body": HEAD + b"Content-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
    "a request in a chunk": HEAD + CHUNKED + b"\r\n" + HIDDEN,
    "an extension": HEAD + CHUNKED + b"\r\n2;a=b\r\n{}\r\n0\r\n\r\n",
    "a trailer": HEAD + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nX-Checksum: 50\r\n\r\n",
    "coding in capitals": HEAD + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "an empty line before it": b"\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
}
"""Probes of the probes: unusual, with one reading, and served."""


def probe_of(name: str, where: str) -> bytes:
    """The bytes of a probe; its two paths are its own. Lengths were counted with `NAME` in place."""
    number = list(PROBES | FINE).index(name)
    mark = f"{where}{number:02}".encode()
    assert len(mark) == 4
    return (PROBES | FINE)[name].replace(b"NAME", mark)
