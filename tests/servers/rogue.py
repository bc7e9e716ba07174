# SPDX-License-Identifier: MIT
# Something on loopback that answers like a MySQL server and is none: it asks for what it should not be told.
import hashlib
import socket
import ssl
import struct
import threading

PLUGIN_AUTH, SSL, SECURE, PROTOCOL_41, WITH_DB = 1 << 19, 1 << 11, 1 << 15, 1 << 9, 1 << 3
CHALLENGE = b"abcdefghijklmnopqrst"


def native(password):
    """The proof that mysql_native_password sends for our challenge."""
    once = hashlib.sha1(password).digest()
    mask = hashlib.sha1(CHALLENGE + hashlib.sha1(once).digest()).digest()
    return bytes(a ^ b for a, b in zip(once, mask))


class Rogue:
    """Listens until it is closed. plugin: what the greeting names; then: (name, replies) of the plugin it switches to and
    what it sends after each of the client's packets from then on; context: offers TLS; old: knows no plugins."""

    def __init__(self, plugin="mysql_native_password", then=None, context=None, old=False):
        self.plugin, self.then, self.context, self.old = plugin, then, context, old
        self.heard = b""  # all that came before TLS, and in it
        self.hellos = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.settimeout(1)
            try:
                self.serve(peer)
            except (OSError, EOFError):
                pass
            peer.close()

    def send(self, peer, number, body):
        peer.sendall(struct.pack("<I", len(body))[:3] + bytes([number]) + body)

    def read(self, peer):
        def take(n):
            got = b""
            while len(got) < n:
                part = peer.recv(n - len(got))
                if not part:
                    raise EOFError
                got += part
                self.heard += part
            return got

        head = take(4)
        return head[3], take(int.from_bytes(head[:3], "little"))

    def greet(self, peer):
        can = PROTOCOL_41 | SECURE | WITH_DB | 0xF7FF & ~SSL & 0x0001
        can |= SSL if self.context else 0
        can |= 0 if self.old else PLUGIN_AUTH
        body = b"\x0a8.0.40\0" + struct.pack("<I", 7) + CHALLENGE[:8] + b"\0" + struct.pack("<H", can & 0xFFFF)
        body += b"\x2d" + struct.pack("<HH", 2, can >> 16) + bytes([0 if self.old else 21]) + b"\0" * 10
        body += CHALLENGE[8:] + b"\0" + (b"" if self.old else self.plugin.encode() + b"\0")
        self.send(peer, 0, body)

    def serve(self, peer):
        self.greet(peer)
        number, hello = self.read(peer)
        if self.context and struct.unpack("<I", hello[:4])[0] & SSL:
            with self.context.wrap_socket(peer, server_side=True) as inner:
                self.talk(inner, *self.read(inner))
        else:
            self.talk(peer, number, hello)

    def talk(self, peer, number, _):
        self.hellos += 1
        if self.then:
            name, replies = self.then
            self.send(peer, number + 1, b"\xfe" + name.encode() + b"\0" + CHALLENGE + b"\0")
            for reply in replies:
                number, _ = self.read(peer)
                self.send(peer, number + 1, reply)
        self.read(peer)
