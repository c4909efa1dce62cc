# Prints all messages of INBOX: host port user password certificate
import imaplib, ssl, sys
host, port, user, password, certificate = sys.argv[1:6]
context = ssl.create_default_context(cafile=certificate)
imap = imaplib.IMAP4_SSL(host, int(port), ssl_context=context, timeout=60)
imap.login(user, password)
status, _ = imap.select("INBOX", readonly=True)
assert status == "OK"
status, found = imap.search(None, "ALL")
assert status == "OK"
for number in found[0].split():
    status, data = imap.fetch(number, "(RFC822)")
    assert status == "OK"
    sys.stdout.buffer.write(data[0][1])
imap.logout()
