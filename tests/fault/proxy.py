# SPDX-License-Identifier: MIT
"""A TCP proxy before the database that can cut, swallow, delay, and pass one byte at a time."""
import select
import socket
import threading
import time


class Proxy:
    """mode: pass, cut, hole (accepts and answers nothing), delay (200 ms each way), trickle (one byte at a time),
    half (the answers are swallowed: what is sent takes effect)."""

    def __init__(self, port):
        self.target = port
        self.mode = "pass"
        self.cuts = self.passed = self.held = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.pairs = set()
        self.closed = False
        self.delayed = []
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.closed = True
        self.listener.close()
        self.cut()

    def cut(self):
        """All connections, at once, with a reset."""
        for pair in list(self.pairs):
            self.cuts += 1
            self.drop(pair)

    def drop(self, pair):
        self.pairs.discard(pair)
        for end in pair:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            if self.mode == "cut":
                self.cuts += 1
                client.close()
                return
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        self.pairs.add(pair)
        threads = [threading.Thread(target=self.pump, args=(pair, a, b), daemon=True)
                   for a, b in ((client, server), (server, client))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.pairs.discard(pair)
        for end in pair:
            end.close()

    def pump(self, pair, source, sink):
        try:
            while True:
                if not select.select([source], [], [], 1)[0]:
                    continue
                while self.mode == "hole" or (self.mode == "half" and source is pair[1]):
                    self.held += 1
                    time.sleep(0.02)
                    if pair not in self.pairs:
                        return
                data = source.recv(65536)
                if not data:
                    break
                self.passed += len(data)
                if self.mode == "delay":
                    time.sleep(0.2)
                if self.mode == "trickle":
                    for i in range(len(data)):
                        sink.sendall(data[i:i + 1])
                        if i < 400:
                            time.sleep(0.0005)
                else:
                    sink.sendall(data)
        except (OSError, ValueError):
            pass
        self.drop(pair)
