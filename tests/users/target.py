"""A server that does what its paths say, in a process of its own: `python tests/users/target.py` prints its port.

/status/<code>  /slow/<ms>  /slow_redirect/<ms>  /redirect/<code>/<n>  /echo  /length/<n>  /gzip  /close  /half
/hang  /half_hang  /flood (chunks without end)  /login  /whoami  /raw/<hex of the whole answer>
/port (the client's)  /open (connections)  /resting/<ms>[/<s>]: closed when it has rested so long; s: what it says of it
/stream/<name>  a script of STREAMS: bytes and pauses (s)  /ledger  (ids of x-request-id: received, answered)
"""

import asyncio
import gzip
import json
import os
import sys
from typing import Final, Literal

sys.path.pop(0)  # this folder: its neighbours' names are those of packages

EVENT = b'data: {"type": "chunk", "content": "word"}\n\n'
START = b'data: {"type": "start"}\n\n'
END = b'data: {"type": "end"}\n\n'
CUT: Final = "cut"

STREAMS: dict[str, list[bytes | float | Literal["cut"]]] = {
    "good": [START, EVENT, EVENT, END],
    "paced": [START, 0.06, EVENT, 0.04, EVENT, 0.04, EVENT, 0.04, EVENT, 0.04, EVENT, 0.02, END],
    "crlf": [(START + EVENT + END).replace(b"\n", b"\r\n")],
    "cr": [START.replace(b"\n", b"\r"), 0.02, EVENT.replace(b"\n", b"\r"), END.replace(b"\n", b"\r")],
    "split": [b'data: {"type": "chunk", "content": "gr\xc3', 0.02, b'\xbcn"}\r', 0.02, b"\n\r\n", END],
    "comments": [b": ping\n\nevent: message\nid: 7\nretry: 10\n" + EVENT, b":\n\n", END],
    "bom": [b"\xef\xbb\xbf" + EVENT, END],
    "many_lines": [b'data: {"type":\ndata: "chunk"}\n\n', END],
    "cut": [START, EVENT, 0.02, CUT],
    "no_end": [START, EVENT, EVENT],
    "end_then_more": [START, EVENT, END, EVENT],
    "unfinished_end": [START, EVENT, END[:-1]],
    "error": [START, EVENT, b'data: {"type": "error", "message": "model fell over"}\n\n', END],
    "not_json": [START, b"data: {nope\n\n", END],
    "not_utf8": [START, b'data: {"type": "chunk", "content": "\xff"}\n\n', END],
    "huge": [START, b'data: "' + b"x" * (3 << 20), EVENT, END],
    "no_token": [START, END],
    "empty": [],
}

ECHOED = {"content-type", "authorization", "cookie", "x-one", "x-none"}

ledger: dict[str, str] = {}
connections: set[asyncio.StreamWriter] = set()


def answer(body: bytes, status: int = 200, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def stream(writer: asyncio.StreamWriter, name: str) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for step in STREAMS[name]:
        if step == CUT:
            return False
        if isinstance(step, float):
            await writer.drain()
            await asyncio.sleep(step)
        else:
            writer.write(b"%x\r\n%s\r\n" % (len(step), step))
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def respond(method: str, path: str, headers: list[list[str]], body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; False to close the connection."""
    _, kind, *rest = path.partition("?")[0].split("/")
    if kind == "stream":
        return await stream(writer, rest[0])
    if kind == "flood":
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4\r\nword\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)
    if kind == "close":
        return False
    if kind == "hang":
        await asyncio.sleep(3600)
    if kind in ("half", "half_hang"):
        writer.write(answer(b"x" * 100)[:-50])
        await asyncio.sleep(3600 if kind == "half_hang" else 0)
        return False
    if kind in ("slow", "slow_redirect"):
        await asyncio.sleep(int(rest[0]) / 1e3)
    sent = answer(b"ok")
    if kind == "status":
        sent = answer(b"body", int(rest[0]))
    elif kind == "echo":
        kept = [pair for pair in headers if pair[0].lower() in ECHOED]
        sent_body = json.loads(body) if body[:1] == b"{" else body.decode()  # of JSON the content counts
        seen = {"method": method, "path": path, "headers": sorted(kept), "body": sent_body}
        sent = answer(json.dumps(seen).encode())
    elif kind == "length":
        sent = answer(b"x" * int(rest[0]))
    elif kind == "port":
        sent = answer(str(writer.get_extra_info("peername")[1]).encode())
    elif kind == "open":
        sent = answer(str(len(connections)).encode())
    elif kind == "resting":
        said = [f"keep-alive: timeout={rest[1]}, max=100"] if len(rest) > 1 else []
        sent = answer(str(writer.get_extra_info("peername")[1]).encode(), 200, *said)
    elif kind == "gzip":
        sent = answer(gzip.compress(b"x" * 1000), 200, "content-encoding: gzip")
    elif kind == "redirect":
        left = int(rest[1])
        location = f"/redirect/{rest[0]}/{left - 1}" if left > 1 else "/echo"
        sent = answer(b"", int(rest[0]), f"location: {location}")
    elif kind == "slow_redirect":
        sent = answer(b"", 302, f"location: /slow/{rest[0]}")
    elif kind == "login":
        sent = answer(b"", 302, "location: /whoami", "set-cookie: session=abc; Path=/; HttpOnly", "set-cookie: ===")
    elif kind == "whoami":
        sent = answer(next((value for name, value in headers if name.lower() == "cookie"), "nobody").encode())
    elif kind == "raw":
        sent = bytes.fromhex(rest[0])
    elif kind == "ledger":
        sent = answer(json.dumps(ledger).encode())
    writer.write(sent if method != "HEAD" else sent.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    await writer.drain()
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    rest_s = None
    connections.add(writer)
    try:
        while line := await asyncio.wait_for(reader.readline(), rest_s):
            method, path, _ = line.decode().split(" ", 2)
            rest_s = int(path.split("/")[2]) / 1e3 if path.startswith("/resting/") else None
            headers: list[list[str]] = []
            while (line := (await reader.readline()).strip()) != b"":
                name, _, value = line.decode().partition(":")
                headers.append([name, value.strip()])
            known = {name.lower(): value for name, value in headers}
            body = await reader.readexactly(int(known.get("content-length", 0)))
            request_id = known.get("x-request-id", "")
            if request_id:
                ledger[request_id] = "twice" if request_id in ledger else "received"
            if not await respond(method, path, headers, body, writer):
                return
            if request_id:
                ledger[request_id] = "answered"
    except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        pass
    finally:
        connections.discard(writer)
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # gone with whoever started it


if __name__ == "__main__":
    asyncio.run(main())
