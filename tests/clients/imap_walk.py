# Goes through IMAP's commands: host port user password certificate
import imaplib, re, ssl, sys, time
host, port, user, password, certificate = sys.argv[1:6]
imap = imaplib.IMAP4(host, int(port), timeout=60)
imap.starttls(ssl.create_default_context(cafile=certificate))

def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data

def no(answer):
    assert answer[0] == "NO", answer

try:
    imap.login(user, "wrong")
    raise SystemExit("a wrong password was taken")
except imaplib.IMAP4.error:
    pass
imap.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
capabilities = ok(imap.capability())[0].decode().split()
for wanted in ["IMAP4rev1", "IDLE", "UIDPLUS", "MOVE", "NAMESPACE", "CHILDREN", "SPECIAL-USE",
               "LITERAL+", "SASL-IR", "ID", "ENABLE", "UNSELECT"]:
    assert wanted in capabilities, (wanted, capabilities)
ok(imap.namespace())
ok(imap.noop())

# Mailboxes.
ok(imap.create("Work"))
ok(imap.create("Work/Deep"))
no(imap.create("Work"))
ok(imap.create('"Entw&APw-rfe"'))
names = b"\n".join(ok(imap.list()))
for name in [b"INBOX", b"Work", b"Work/Deep", b"Entw&APw-rfe"]:
    assert name in names, (name, names)
assert b"\\HasChildren" in [l for l in ok(imap.list()) if l.endswith(b"Work") or l.endswith(b'"Work"')][0]
ok(imap.subscribe("Work"))
assert b"Work" in b"\n".join(ok(imap.lsub()))
ok(imap.unsubscribe("Work"))
ok(imap.rename("Work/Deep", "Work/Deeper"))
no(imap.select("Work/Deep"))
no(imap.delete("nosuch"))
ok(imap.delete("Work/Deeper"))

# Messages.
text = (b"From: Ana <ana@aula.test>\r\nTo: lois@aula.test\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Date: Fri, 21 Nov 1997 09:55:06 -0600\r\nMessage-ID: <1@aula.test>\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello W\xc3\xb6rld\r\n"
        b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b--\r\n")
data = ok(imap.append("Work", r"(\Seen $Mark)", imaplib.Time2Internaldate(1000000000), text))
assert b"APPENDUID" in data[0], data
ok(imap.append("Work", None, None, text.replace(b"Subject: ", b"Subject: second ")))
try:
    status, data = imap.append("nosuch", None, None, text)
    assert status == "NO" and b"TRYCREATE" in data[0], (status, data)
except imaplib.IMAP4.error as error:
    assert "TRYCREATE" in str(error), error
assert ok(imap.select("Work")) == [b"2"]
status = ok(imap.status("Work", "(MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)"))[0]
assert b"MESSAGES 2" in status and b"UNSEEN 1" in status, status

def fetch(numbers, items, uid=False):
    return ok(imap.uid("FETCH", numbers, items) if uid else imap.fetch(numbers, items))

whole = fetch("1", "(BODY.PEEK[])")
assert whole[0][1] == text, whole
line = fetch("1", "(UID FLAGS INTERNALDATE RFC822.SIZE)")[0]
assert b"\\Seen" in line and b"$Mark" in line and b"RFC822.SIZE %d" % len(text) in line, line
assert b"09-Sep-2001" in line or b" 9-Sep-2001" in line, line
envelope = fetch("1", "(ENVELOPE)")[0]
assert (b'("Fri, 21 Nov 1997 09:55:06 -0600" "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=" (("Ana" NIL "ana" "aula.test")) '
        b'(("Ana" NIL "ana" "aula.test")) (("Ana" NIL "ana" "aula.test")) ((NIL NIL "lois" "aula.test")) '
        b'NIL NIL NIL "<1@aula.test>")') in envelope, envelope
structure = fetch("1", "(BODYSTRUCTURE)")[0]
assert (b'(("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 12 0 NIL NIL NIL NIL)'
        b'("application" "pdf" ("name" "a.pdf") NIL NIL "base64" 4 NIL NIL NIL NIL) "mixed" '
        b'("boundary" "b") NIL NIL NIL)') in structure, structure
assert fetch("1", "(BODY.PEEK[2])")[0][1] == b"QUJD"
assert fetch("1", "(BODY.PEEK[2.MIME])")[0][1].startswith(b"Content-Type: application/pdf")
part = fetch("1", "(BODY.PEEK[1]<6.3>)")[0]
assert part[1] == b"W\xc3\xb6" and b"BODY[1]<6>" in part[0], part
assert fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT X-NONE)])")[0][1] == b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\r\n"
rest = fetch("1", "(BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)])")[0][1]
assert b"Subject" not in rest and rest.endswith(b"\r\n\r\n"), rest
assert fetch("1", "(BODY.PEEK[TEXT])")[0][1] == text.split(b"\r\n\r\n", 1)[1]
assert b"\\Seen" not in fetch("2", "(FLAGS)")[0]
fetch("2", "(BODY[TEXT])")
assert b"\\Seen" in fetch("2", "(FLAGS)")[0]
for macro in ["ALL", "FAST", "FULL"]:
    fetch("1:2", macro)

# Search.
def search(*keys, charset=None):
    return ok(imap.search(charset, *keys))[0].split()
assert search("ALL") == [b"1", b"2"]
assert search("KEYWORD", "$Mark") == [b"1"]
assert search("UNKEYWORD", "$Mark") == [b"2"]
assert search("SUBJECT", "second") == [b"2"]
assert search("NOT", "SUBJECT", "second") == [b"1"]
assert search("OR", "SUBJECT", "second", "KEYWORD", "$Mark") == [b"1", b"2"]
assert search("BEFORE", "1-Jan-2002") == [b"1"]
assert search("SENTON", "21-Nov-1997") == [b"1", b"2"]
assert search("FROM", "ANA") == [b"1", b"2"]
assert search("HEADER", "Message-ID", "1@aula") == [b"1", b"2"]
assert search("LARGER", "10", "SMALLER", "100000", "2") == [b"2"]
assert search("TEXT", "nowhere") == []
imap.literal = "grüße".encode()
assert ok(imap.search("UTF-8", "SUBJECT"))[0].split() == [b"1", b"2"]
imap.literal = "WÖRLD".encode()
assert ok(imap.search("UTF-8", "BODY"))[0].split() == [b"1", b"2"]

# Flags, copies, moves.
ok(imap.store("1", "-FLAGS", r"(\Seen)"))
assert b"\\Seen" not in fetch("1", "(FLAGS)")[0]
ok(imap.store("1", "FLAGS", r"(\Answered)"))
assert b"$Mark" not in fetch("1", "(FLAGS)")[0]
status, data = imap.copy("1:2", "INBOX")
assert status == "OK" and b"COPYUID" in data[0], data
no(imap.copy("1", "nosuch"))
uid = re.search(rb"UID (\d+)", fetch("2", "(UID)")[0]).group(1).decode()
ok(imap.uid("MOVE", uid, "INBOX"))
assert ok(imap.search(None, "ALL")) == [b"1"]
ok(imap.store("1", "+FLAGS", r"(\Deleted)"))
assert ok(imap.expunge())[-1:] == [b"1"]
assert ok(imap.search(None, "ALL")) in ([b""], [None])
ok(imap.unselect())
assert ok(imap.select("INBOX")) == [b"3"]
uids = [re.search(rb"UID (\d+)", line).group(1).decode() for line in fetch("1:*", "(UID)")]
ok(imap.store("1:3", "+FLAGS.SILENT", r"(\Deleted)"))
ok(imap.uid("EXPUNGE", uids[0]))
assert len(ok(imap.search(None, "ALL"))[0].split()) == 2
ok(imap.close())
assert ok(imap.select("INBOX", readonly=True)) == [b"0"]
ok(imap.check())
imap.logout()
print("all done")
