"""Streamed CSV files: neither the time to the first byte nor the server's memory depends on their length."""

from collections.abc import Iterable, Iterator
from itertools import chain

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from console.ledger.chain import BYTE_ORDER_MARK

PIECE = 64 << 10  # characters
HELD_BACK = 3  # of each piece but the last: the end of a hash, and of its line


def csv_download(request: HttpRequest, name: str, lines: Iterable[str]) -> HttpResponseBase:
    """An error before anything is sent gets an error page; a later one closes the connection. The download holds a
    thread of the server until the client, or a buffering proxy, has received everything."""
    pieces = in_pieces(chain([BYTE_ORDER_MARK], lines))
    first, second = next(pieces), next(pieces, None)
    headers = {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": f'attachment; filename="{name}.csv"'}
    if second is None or request.method == "HEAD":
        return HttpResponse(first, headers=headers)
    return StreamingHttpResponse(chain([first, second], pieces), headers=headers)


def in_pieces(lines: Iterable[str]) -> Iterator[str]:
    """Each but the last ends within a line, so that no download which was cut off looks whole (HTTP/1.0 marks no end,
    and a proxy may speak it): console.ledger.verify finds its last row incomplete."""
    piece = ""
    for line in lines:
        piece += line
        if len(piece) > PIECE:
            yield piece[:-HELD_BACK]
            piece = piece[-HELD_BACK:]
    yield piece
