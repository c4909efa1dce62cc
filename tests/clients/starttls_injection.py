# Sends commands in the same packet as STARTTLS: host port
import socket, ssl, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
def reply(stream):
    data = b""
    while not data.endswith(b"\r\n") or data.splitlines()[-1][3:4] == b"-":
        piece = stream.recv(4096)
        assert piece, data
        data += piece
    return data
assert reply(sock).startswith(b"220")
sock.sendall(b"EHLO one\r\n")
assert b"STARTTLS" in reply(sock)
sock.sendall(b"STARTTLS\r\nNOOP injected\r\nNOOP injected\r\n")
first = reply(sock)
assert first.startswith(b"220") and first.count(b"\r\n") == 1, first
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
try:
    tls = context.wrap_socket(sock)
    tls.settimeout(60)
    tls.sendall(b"MAIL FROM:<a@b.example>\r\n")
    answer = reply(tls)
except (ssl.SSLError, ConnectionError):
    # Closing the connection is right too.
    sys.exit(0)
# The greeting before TLS is forgotten, and nobody has answered the injected lines.
assert answer.startswith(b"503"), answer
