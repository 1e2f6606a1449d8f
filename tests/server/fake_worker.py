"""A worker without a gateway, for tests of slots: says what the real one says, does what its name asks.

Run as `python fake_worker.py MANNER LISTENER LINE`. Manners: `good`, `dies` (at once), `deaf` (never ends
when told to), `refuses` (its settings).
"""

import os
import signal
import socket
import sys

import msgspec

from slipstream.server import messages
from slipstream.server.channel import FrameReader, frame


def main(manner: str, line_number: int) -> int:
    if manner == "dies":
        return 7
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = socket.socket(fileno=line_number)

    def say(message: msgspec.Struct) -> None:
        line.sendall(frame(msgspec.msgpack.encode(message)))

    def on_sigterm(*_: object) -> None:
        say(messages.Leaving())

    signal.signal(signal.SIGTERM, on_sigterm)
    decoder = msgspec.msgpack.Decoder(messages.ToWorker)
    reader = FrameReader()
    while data := line.recv(65536):
        for encoded in reader.feed(data):
            match decoder.decode(encoded):
                case messages.Begin() if manner == "refuses":
                    say(messages.Refused("no", "set it right"))
                    return 1
                case messages.Begin():
                    say(messages.Status(3, {"requests": 5}))
                    say(messages.Ready(os.getpid()))
                case messages.Drain() if manner != "deaf":
                    say(messages.Records([]))
                    say(messages.Status(0, {"requests": 6}))
                    return 0
                case _:
                    pass
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[3])))
