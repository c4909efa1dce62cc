"""APPEND of several messages in one command (RFC 3502): all of them, or none."""

import imaplib
import sys

host, port, login, password = sys.argv[1:5]
imap = imaplib.IMAP4(host, int(port))
imap.login(login, password)
offered = imap.capability()[1][0]
assert b" MULTIAPPEND" in offered, offered
imap.select("INBOX")


def append(*parts):
    tag = imap._new_tag()
    line = tag + b" APPEND INBOX"
    for options, message in parts:
        line += b" " + options + b"{%d+}\r\n" % len(message) + message
    imap.send(line + b"\r\n")
    while True:
        answer = imap.readline()
        if answer.startswith(tag):
            return answer


def mail(number):
    return b"Subject: number %d\r\n\r\nbody %d\r\n" % (number, number)


answer = append(
    (b"", mail(1)),
    (b"(\\Seen \\Flagged) ", mail(2)),
    (b'(\\Draft) "17-Jul-1996 02:44:25 -0700" ', mail(3)),
)
assert b" OK [APPENDUID " in answer and b" 1:3]" in answer, answer
typ, data = imap.fetch("1:3", "(FLAGS INTERNALDATE BODY.PEEK[])")
text = b"".join(b"".join(part) if isinstance(part, tuple) else part for part in data)
assert b"\\Flagged" in text and b"17-Jul-1996 02:44:25 -0700" in text, text
assert all(mail(number) in text for number in (1, 2, 3)), text

# One that cannot be stored takes the others with it.
answer = append((b"", mail(4)), (b"(\\Seen ", mail(5)))
assert b" BAD " in answer, answer
answer = append((b"", mail(6)), (b"", b""))
assert b" NO " in answer, answer
assert b" NO " in append((b"", b"")), "an empty message was stored"
assert b" NO " in append((b"", b""), (b"", mail(7))), "a message behind an empty one was stored"
answer = append((b"", mail(8) + 100000 * b"x"), (b"", b""))
assert b" NO " in answer, answer
messages = imap.status("INBOX", "(MESSAGES)")[1][0]
assert messages.endswith(b" 3)"), messages

# Who deletes the mailbox that is selected has none selected then.
imap.create("Gone")
imap.select("Gone")
assert imap.delete("Gone")[0] == "OK"
imap.state = "SELECTED"
assert imap.noop()[0] == "OK"
try:
    imap.fetch("1", "(FLAGS)")
    raise SystemExit("FETCH without a mailbox worked")
except imaplib.IMAP4.error:
    pass
imap.logout()
print("all done")
